import type { WorkspaceView } from '@dumont/shared/api/views.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { randomBytes } from 'node:crypto';
import type { Database } from '../store/database.ts';
import { findGatewaySecret, gatewayPortsOf, insertGateway, replaceSecret } from '../store/gateways.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { signToken, TOKEN_PARAMETER } from './gateway-token.ts';

type Addresses = WorkspaceView['gateway'];

/** What users are told of their addresses, and the tokens that open them. */
export class GatewayAddresses {
  readonly #db: Database;
  readonly #clock: Clock;
  /** Base URL under which users reach the control plane. */
  readonly #publicUrl: URL;
  readonly #domain: string | undefined;

  constructor(parts: {
    readonly db: Database;
    readonly clock: Clock;
    readonly publicUrl: string;
    readonly domain: string | undefined;
  }) {
    this.#db = parts.db;
    this.#clock = parts.clock;
    this.#publicUrl = new URL(parts.publicUrl);
    this.#domain = parts.domain;
  }

  async of(rows: readonly WorkspaceRow[]): Promise<ReadonlyMap<WorkspaceId, Addresses>> {
    const ports = await gatewayPortsOf(
      this.#db,
      rows.map(({ id }) => id),
    );
    return new Map(
      rows.map((row) => {
        const port = ports.get(row.id);
        // WHATWG keeps the brackets of an IPv6 address, ssh wants it bare.
        const host = this.#publicUrl.hostname.replace(/^\[|\]$/g, '');
        return [row.id, { ssh: port === undefined ? null : { host, port }, http: this.#httpOf(row) }];
      }),
    );
  }

  /** A token for the workspace's HTTP address. `revoke` makes every earlier one worthless first. */
  async createToken(
    row: WorkspaceRow,
    options: { readonly validForMs: number; readonly revoke: boolean },
  ): Promise<{ readonly token: string; readonly expiresAtMs: number; readonly url: string | null }> {
    const fresh = randomBytes(32).toString('base64url');
    await insertGateway(this.#db, row.id, fresh);
    if (options.revoke) await replaceSecret(this.#db, row.id, fresh);
    const secret = await findGatewaySecret(this.#db, row.id);
    if (secret === undefined) throw new DumontError('NOT_FOUND', `workspace ${row.name} is being deleted`);
    const expiresAtMs = this.#clock.nowMs() + options.validForMs;
    const token = signToken(row.id, expiresAtMs, secret);
    const address = this.#httpOf(row);
    return { token, expiresAtMs, url: address === null ? null : `${address}?${TOKEN_PARAMETER}=${token}` };
  }

  #httpOf(row: WorkspaceRow): string | null {
    if (row.policy.ports.http === undefined) return null;
    const url = new URL(this.#publicUrl);
    if (this.#domain === undefined) return new URL(`/w/${row.name}/`, url).href;
    url.hostname = `${row.name.toLowerCase()}.${this.#domain}`;
    url.pathname = '/';
    return url.href;
  }
}
