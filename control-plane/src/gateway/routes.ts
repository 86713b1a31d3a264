import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { MachineAddress } from '../providers/provider.ts';
import type { GatewayRow } from '../store/gateways.ts';
import type { EndpointBook } from './machine-endpoints.ts';

/** Where a user's bytes go now. */
export interface Target {
  readonly instanceId: InstanceId;
  readonly address: MachineAddress;
}

/** Which machine serves each workspace at the committed epoch, as this process knows it. */
export class Routes {
  /** Rings whenever a workspace got or lost its machine. */
  readonly changed = new Bell();
  readonly #book: Pick<EndpointBook, 'locate' | 'doubt'>;
  #byId: ReadonlyMap<string, GatewayRow> = new Map();
  #byName: ReadonlyMap<string, GatewayRow> = new Map();
  /** By the name in lower case, which is what host names are; those that collide are missing. */
  #byHostLabel: ReadonlyMap<string, GatewayRow> = new Map();

  constructor(book: Pick<EndpointBook, 'locate' | 'doubt'>) {
    this.#book = book;
  }

  /** Takes over what the database says. @returns the rows whose primary is another than before, with that one */
  replace(rows: readonly GatewayRow[]): readonly { readonly row: GatewayRow; readonly before: InstanceId | null }[] {
    const moved = rows.flatMap((row) => {
      const before = this.#byId.get(row.workspaceId)?.primaryInstanceId ?? null;
      return before === row.primaryInstanceId ? [] : [{ row, before }];
    });
    this.#byId = new Map(rows.map((row) => [row.workspaceId, row]));
    this.#byName = new Map(rows.map((row) => [row.name, row]));
    const labels = Map.groupBy(rows, (row) => row.name.toLowerCase());
    this.#byHostLabel = new Map(
      [...labels].flatMap(([label, [row, ...others]]) =>
        row === undefined || others.length > 0 ? [] : [[label, row]],
      ),
    );
    if (moved.length > 0) this.changed.ring();
    return moved;
  }

  get all(): readonly GatewayRow[] {
    return [...this.#byId.values()];
  }

  /** By id or name. */
  find(idOrName: string): GatewayRow | undefined {
    return this.#byId.get(idOrName) ?? this.#byName.get(idOrName);
  }

  /** By the name as it stands in a host name, without regard to case. */
  findByHostLabel(label: string): GatewayRow | undefined {
    return this.#byHostLabel.get(label) ?? this.#byId.get(label);
  }

  /** Null while no machine serves the workspace, or its address is not known. */
  async target(workspaceId: WorkspaceId, service: 'ssh' | 'http'): Promise<Target | null> {
    const row = this.#byId.get(workspaceId);
    const instanceId = row?.primaryInstanceId ?? null;
    if (row === undefined || instanceId === null) return null;
    const endpoints = await this.#book.locate(instanceId);
    const address = service === 'ssh' ? endpoints?.ssh : endpoints?.ports.get(row.ports.http ?? 0);
    // The workspace may have moved while its provider was asked.
    if (address === undefined || address === null || !this.isPrimary(workspaceId, instanceId)) return null;
    return { instanceId, address };
  }

  isPrimary(workspaceId: WorkspaceId, instanceId: InstanceId): boolean {
    return this.#byId.get(workspaceId)?.primaryInstanceId === instanceId;
  }

  /** The target's address led nowhere. */
  doubt({ instanceId }: Target): void {
    this.#book.doubt(instanceId);
  }
}
