import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { placeOfGrant } from '../storage/held-grant.ts';
import type { OpenEngine, WorkspaceEngine } from './engine.ts';

interface Held {
  readonly workspaceId: WorkspaceId;
  /** What it opened, whatever the keys. */
  readonly place: string;
  readonly engine: WorkspaceEngine;
}

/** Keeps one engine open for as long as assignments name the same place; new keys to it are handed to the engine. */
export class EngineHolder implements AsyncDisposable {
  readonly #open: OpenEngine;
  #held: Held | null = null;

  constructor(open: OpenEngine) {
    this.#open = open;
  }

  /** Of what is open; changes when another engine takes its place. */
  get key(): string {
    return `${this.#held?.workspaceId} ${this.#held?.place}`;
  }

  /**
   * The engine of an assignment.
   * @param beforeClose called before an engine of another place is closed
   * @throws {DumontError} UNAVAILABLE without a grant; what opening throws
   */
  async engineFor(
    { workspaceId, storage }: Assignment,
    beforeClose: (reason: DumontError) => Promise<void>,
  ): Promise<WorkspaceEngine> {
    const held = this.#held?.workspaceId === workspaceId ? this.#held : null;
    if (storage === null) {
      // No new grant can be made just now; the one at hand is good until it runs out.
      if (held !== null) return held.engine;
      throw new DumontError('UNAVAILABLE', 'there is no grant for the object store yet', { retryable: true });
    }
    const place = placeOfGrant(storage);
    if (held?.place === place) return held.engine;
    await beforeClose(new DumontError('ABORTED', 'the storage of the workspace changed'));
    await this[Symbol.asyncDispose]();
    this.#held = { workspaceId, place, engine: await this.#open({ workspaceId, storage }) };
    return this.#held.engine;
  }

  /** At once, not in turn with assignments: what runs may be waiting for nothing else. */
  renew({ workspaceId, storage }: Assignment): void {
    if (storage === null || this.#held?.workspaceId !== workspaceId) return;
    if (this.#held.place === placeOfGrant(storage)) this.#held.engine.renew(storage);
  }

  /** Closes what is open; another may be opened afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    const held = this.#held;
    this.#held = null;
    await held?.engine[Symbol.asyncDispose]();
  }
}
