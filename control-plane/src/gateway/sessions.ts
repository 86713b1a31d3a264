import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { GatewayLimits } from './gateway-limits.ts';

/** One connection or request of a user, counted from its arrival to its end. */
export interface Session {
  /**
   * It is served by this machine from now on. `end` is called at most once, when the machine has lost the workspace:
   * it ends what the user has open, cleanly and without waiting.
   */
  serve(instanceId: InstanceId, end: () => void): void;
  /** Gives its place back; idempotent. */
  close(): void;
}

interface Served {
  readonly instanceId: InstanceId;
  readonly end: () => void;
}

/** Everything users have open, so that it can be bounded and ended. */
export class Sessions {
  readonly #limits: Pick<GatewayLimits, 'maxPerWorkspace' | 'maxTotal'>;
  readonly #open = new Map<WorkspaceId, Map<Session, Served | null>>();
  #total = 0;

  constructor(limits: Pick<GatewayLimits, 'maxPerWorkspace' | 'maxTotal'>) {
    this.#limits = limits;
  }

  /** Null when there are too many, of this workspace or of all. */
  open(workspaceId: WorkspaceId): Session | null {
    const ofWorkspace = this.#open.get(workspaceId) ?? new Map<Session, Served | null>();
    if (ofWorkspace.size >= this.#limits.maxPerWorkspace || this.#total >= this.#limits.maxTotal) return null;
    const session: Session = {
      serve: (instanceId, end) => {
        if (ofWorkspace.has(session)) ofWorkspace.set(session, { instanceId, end });
      },
      close: () => {
        if (!ofWorkspace.delete(session)) return;
        this.#total -= 1;
        if (ofWorkspace.size === 0) this.#open.delete(workspaceId);
      },
    };
    ofWorkspace.set(session, null);
    this.#open.set(workspaceId, ofWorkspace);
    this.#total += 1;
    return session;
  }

  get count(): number {
    return this.#total;
  }

  /** Ends what other machines than this one serve. @returns how many */
  endOthers(workspaceId: WorkspaceId, primary: InstanceId | null): number {
    let ended = 0;
    for (const [session, served] of this.#open.get(workspaceId) ?? []) {
      if (served === null || served.instanceId === primary) continue;
      this.#open.get(workspaceId)?.set(session, null);
      served.end();
      ended += 1;
    }
    return ended;
  }

  /** Ends everything, for the end of the process. */
  endAll(): void {
    for (const workspaceId of this.#open.keys()) this.endOthers(workspaceId, null);
  }
}
