import type { SyncTree, TreeNode } from './sync-tree.ts';

interface Sent {
  readonly seq: number;
  /** Of the tree after it. */
  readonly hash: string;
  readonly sinceMs: number;
  /** Size of what it brings. */
  readonly bytes: number;
  /** What it changed, with what was there before, in order. */
  readonly changes: readonly Change[];
}

interface Change {
  readonly path: string;
  readonly before: TreeNode | undefined;
}

/** Numbers batches and remembers what those that are not acknowledged changed, so that it can be taken back. */
export class SentBatches {
  readonly #tree: SyncTree;
  #sent: Sent[] = [];
  #changes: Change[] = [];
  #seq = 0;
  #lost: { readonly path: string; readonly sinceMs: number }[] = [];
  /** What the standby acknowledged last. */
  watermark: { readonly seq: number; readonly hash: string } | null = null;
  isConnected = false;

  /** @param tree every change of which belongs to the next batch */
  constructor(tree: SyncTree) {
    this.#tree = tree;
    tree.onChange = (path, before) => this.#changes.push({ path, before });
  }

  get isEmpty(): boolean {
    return this.#sent.length === 0;
  }

  /** Monotonic time of the oldest change that is not acknowledged, Infinity when all are. */
  get sinceMs(): number {
    const lost = this.#lost.reduce((least, one) => Math.min(least, one.sinceMs), Infinity);
    return this.#sent.reduce((least, one) => Math.min(least, one.sinceMs), lost);
  }

  /** Size of what is not acknowledged. */
  get bytes(): number {
    return this.#sent.reduce((sum, one) => sum + one.bytes, 0);
  }

  /** What changed since the last batch is one that is about to be sent. */
  add({ sinceMs, bytes }: { readonly sinceMs: number; readonly bytes: number }): {
    readonly seq: number;
    readonly hash: string;
  } {
    this.#seq += 1;
    const hash = this.#tree.hash();
    this.#sent.push({ seq: this.#seq, hash, sinceMs, bytes, changes: this.#changes });
    this.#changes = [];
    return { seq: this.#seq, hash };
  }

  /** Takes back what changed since the last batch: it will not be sent. */
  discard(): void {
    this.#takeBack(this.#changes);
    this.#changes = [];
  }

  /** False when the standby's tree is not what ours was after the batch. */
  acknowledge(seq: number, hash: string): boolean {
    const index = this.#sent.findIndex((one) => one.seq === seq);
    if (index === -1 || this.#sent[index]?.hash !== hash) return false;
    this.#sent.splice(0, index + 1);
    this.watermark = { seq, hash };
    return true;
  }

  /** The connection is lost: nothing more is acknowledged. */
  endSession(): void {
    this.discard();
  }

  /**
   * A standby is back. Takes back what it did not get to.
   * @returns paths to look at again
   */
  resume(standby: { readonly seq: number; readonly hash: string }): readonly { path: string; sinceMs: number }[] {
    const done = this.#sent.findIndex((one) => one.seq === standby.seq && one.hash === standby.hash);
    if (done !== -1) this.acknowledge(standby.seq, standby.hash);
    for (const { changes, sinceMs } of this.#sent.toReversed()) {
      this.#takeBack(changes);
      for (const { path } of changes) this.#lost.push({ path, sinceMs });
    }
    this.#sent = [];
    this.#seq = Math.max(this.#seq, standby.seq);
    const lost = this.#lost;
    this.#lost = [];
    return lost;
  }

  /** The tree was made the standby's: no batch did that. */
  agreed(seq: number, hash: string): void {
    this.#changes = [];
    this.watermark = { seq, hash };
  }

  #takeBack(changes: readonly Change[]): void {
    for (const { path, before } of changes.toReversed()) {
      if (before === undefined) this.#tree.delete(path);
      else this.#tree.set(path, before);
    }
    this.#changes = [];
  }
}
