import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import type { SyncEntry } from '@dumont/shared/protocol/sync.ts';
import type { KnownState, SyncTree, TreeNode } from './sync-tree.ts';

/** Changed when lines mean something else; an older file then counts as none. */
const FORMAT = 1;
/** Entries of one line when all are written. */
const ENTRIES_PER_LINE = 1_000;
/** Written anew when it has grown by so much since it was last. */
const COMPACT_AFTER_BYTES = 256 * 1024 * 1024;
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';

type StoredState = readonly [size: string, mtimeNs: string, ctimeNs: string, ino: string, dev: string];
type StoredNode = readonly [path: string, entry: SyncEntry, state: StoredState | null];

interface Line {
  readonly seq: number;
  readonly epoch: number;
  readonly set: readonly StoredNode[];
  readonly del: readonly string[];
}

/** How far a folder was brought. */
export interface JournalPosition {
  readonly seq: number;
  /** The highest epoch that wrote. */
  readonly epoch: number;
}

/**
 * What a standby's folder holds, in a file of this machine, one line of JSON per batch: a process that comes after it need
 * not read the folder again. Only saves work: every line is held against the folder when it is read. Not flushed, because
 * after a crash of the machine, told by the kernel's boot id, only the epoch counts.
 */
export class SyncJournal {
  readonly #path: string;
  readonly #root: string;
  #file: number | null = null;
  #grownBytes = 0;

  /** @param root of the folder it tells of */
  constructor(path: string, root: string) {
    this.#path = path;
    this.#root = root;
  }

  /** What was written last; nodes are empty when the machine has booted since. */
  read(): JournalPosition & { readonly nodes: ReadonlyMap<string, TreeNode> } {
    const nodes = new Map<string, TreeNode>();
    let position: JournalPosition = { seq: 0, epoch: 0 };
    const lines = this.#readLines();
    const header = tryParseJson(lines[0] ?? '') as { format?: unknown; root?: unknown; bootId?: unknown } | undefined;
    if (header?.format !== FORMAT || header.root !== this.#root) return { ...position, nodes };
    const isSameBoot = header.bootId === bootId();
    for (const text of lines.slice(1)) {
      const line = tryParseJson(text) as Line | undefined;
      // The last one may be half of a line.
      if (line === undefined) break;
      position = { seq: line.seq, epoch: Math.max(position.epoch, line.epoch) };
      if (!isSameBoot) continue;
      for (const path of line.del) nodes.delete(path);
      for (const [path, entry, state] of line.set) nodes.set(path, { entry, state: parseState(state) });
    }
    return { ...position, nodes };
  }

  /** Begins a file that tells of the whole tree. @throws {DumontError} IO */
  async restart(tree: SyncTree, position: JournalPosition): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    this.#writeAll(tree, position);
  }

  /** Appends what changed. @throws {DumontError} IO */
  append(tree: SyncTree, changed: Iterable<string>, position: JournalPosition): void {
    const set: StoredNode[] = [];
    const del: string[] = [];
    for (const path of changed) {
      const node = tree.get(path);
      if (node === undefined) del.push(path);
      else set.push([path, node.entry, formatState(node.state)]);
    }
    try {
      this.#write({ ...position, set, del });
    } catch (error) {
      throw toDumontError(error, 'IO', `writing ${this.#path}`);
    }
    if (this.#grownBytes > COMPACT_AFTER_BYTES) this.#writeAll(tree, position);
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #writeAll(tree: SyncTree, position: JournalPosition): void {
    const temporary = `${this.#path}.tmp`;
    this.close();
    try {
      this.#file = openSync(temporary, 'w', 0o600);
      this.#write({ format: FORMAT, root: this.#root, bootId: bootId() });
      let set: StoredNode[] = [];
      for (const path of tree.paths()) {
        const node = tree.get(path);
        if (node !== undefined) set.push([path, node.entry, formatState(node.state)]);
        if (set.length < ENTRIES_PER_LINE) continue;
        this.#write({ ...position, set, del: [] });
        set = [];
      }
      this.#write({ ...position, set, del: [] });
      renameSync(temporary, this.#path);
      this.#grownBytes = 0;
    } catch (error) {
      this.close();
      rmSync(temporary, { force: true });
      throw toDumontError(error, 'IO', `writing ${this.#path}`);
    }
  }

  #write(line: object): void {
    if (this.#file === null) return;
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    for (let done = 0; done < bytes.length;) done += writeSync(this.#file, bytes, done);
    this.#grownBytes += bytes.length;
  }

  #readLines(): readonly string[] {
    try {
      return readFileSync(this.#path, 'utf8').split('\n');
    } catch {
      return [];
    }
  }
}

function bootId(): string {
  try {
    return readFileSync(BOOT_ID_FILE, 'latin1').trim();
  } catch {
    return '';
  }
}

function formatState(state: KnownState | null): StoredState | null {
  if (state === null) return null;
  const { size, mtimeNs, ctimeNs, ino, dev } = state;
  return [String(size), String(mtimeNs), String(ctimeNs), String(ino), String(dev)];
}

function parseState(stored: StoredState | null): KnownState | null {
  if (stored === null) return null;
  const [size, mtimeNs, ctimeNs, ino, dev] = stored;
  return {
    size: BigInt(size),
    mtimeNs: BigInt(mtimeNs),
    ctimeNs: BigInt(ctimeNs),
    ino: BigInt(ino),
    dev: BigInt(dev),
    settled: true,
  };
}
