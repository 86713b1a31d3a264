import {
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  type BigIntStats,
} from 'node:fs';
import { MAX_STAGES, type SyncContent, type SyncMeta, type SyncOp } from '@dumont/shared/protocol/sync.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { applyToFile, applyToPath, givesAccessList, type MetadataOptions } from '../restore/metadata.ts';
import { createTemporary, temporaryPath, writeAt } from '../restore/new-file.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { releaseBuffers } from '../workers/release-buffers.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';
import { chunkOffsets, readRange } from './file-content.ts';
import { Stage } from './stage.ts';
import { parentOf, type SyncTree } from './sync-tree.ts';
import { applyToTree, fileAt } from './tree-ops.ts';

type OpOf<Name extends SyncOp['op']> = Extract<SyncOp, { op: Name }>;

export interface StandbyFolderOptions extends MetadataOptions {
  readonly root: string;
  readonly tree: SyncTree;
}

/** Where chunks lie in one version of a file. */
interface OffsetsOf {
  readonly holder: string;
  readonly version: string | undefined;
  readonly byId: ReadonlyMap<string, number>;
}

/**
 * Carries out operations in a standby's folder: every file is whole whenever it has its name, whatever happens. The tree
 * says what lies there, so nothing is written through a symlink; it relies on nobody else writing to the folder.
 */
export class StandbyFolder implements Disposable {
  readonly #root: string;
  readonly #owners: boolean;
  readonly #stages = new Map<number, Stage>();
  #nextTemporary = 0;
  /** Of the file that chunks were last taken from. */
  #offsets: OffsetsOf | null = null;
  #tree: SyncTree;

  constructor({ root, tree, owners }: StandbyFolderOptions) {
    this.#root = root;
    this.#owners = owners;
    this.#tree = tree;
  }

  /** What the folder holds. */
  get tree(): SyncTree {
    return this.#tree;
  }

  /** The folder was read anew. */
  replaceTree(tree: SyncTree): void {
    this.#tree = tree;
  }

  /**
   * Carries out one batch, synchronously.
   * @param pool chunks that came for it, checked
   * @param changed gets every path of the tree that changed, also when it throws
   * @throws {DumontError} PROTOCOL for what does not fit the tree, CORRUPT when the folder is not as the tree says, IO
   */
  apply(ops: readonly SyncOp[], pool: ReadonlyMap<string, Uint8Array>, changed: Set<string>): void {
    const folders = new Set<string>();
    try {
      for (const op of ops) this.#applyOne(op, { pool, changed, folders });
    } catch (error) {
      throw toDumontError(error, 'IO', `synchronizing ${this.#root}`);
    } finally {
      this.#finishFolders(folders);
      for (const path of changed) this.#rememberState(path);
    }
  }

  openStage(id: number): void {
    if (this.#stages.size >= MAX_STAGES || this.#stages.has(id)) {
      throw new DumontError('PROTOCOL', `stage ${id} is one too many`);
    }
    this.#nextTemporary += 1;
    this.#stages.set(id, new Stage(this.#root, `stage-${this.#nextTemporary}`));
  }

  stage(id: number): Stage {
    const stage = this.#stages.get(id);
    if (stage === undefined) throw new DumontError('PROTOCOL', `there is no stage ${id}`);
    return stage;
  }

  /** Puts chunks that lie here into a stage. @throws {DumontError} CORRUPT when one does not */
  copy(id: number, chunks: readonly (readonly [chunkId: string, offset: number, length: number])[]): void {
    const stage = this.stage(id);
    for (const [chunkId, offset, length] of chunks) {
      const bytes = this.#chunk(chunkId, length);
      stage.write(chunkId, bytes, offset);
      releaseBuffers([bytes]);
    }
  }

  /** @param ids none: all */
  freeStages(ids: readonly number[]): void {
    for (const id of ids.length === 0 ? [...this.#stages.keys()] : ids) {
      this.#stages.get(id)?.[Symbol.dispose]();
      this.#stages.delete(id);
    }
  }

  /** Takes stages of a session that ended out of the way of the next one's numbers. @returns chunks in them */
  orphanStages(): readonly string[] {
    const orphans = [...this.#stages.values()];
    this.#stages.clear();
    for (const [index, stage] of orphans.entries()) this.#stages.set(0xffff_ffff - index, stage);
    const chunkIds = new Set<string>();
    for (const stage of orphans) for (const chunkId of stage.chunkIds) chunkIds.add(chunkId);
    return [...chunkIds];
  }

  [Symbol.dispose](): void {
    this.freeStages([]);
  }

  #applyOne(
    op: SyncOp,
    batch: {
      readonly pool: ReadonlyMap<string, Uint8Array>;
      readonly changed: Set<string>;
      readonly folders: Set<string>;
    },
  ): void {
    const written = op.op === 'rename' ? [op.from, op.to] : 'links' in op ? [op.path, ...op.links] : [op.path];
    this.#check(op, written);
    for (const path of written) this.#openFolder(parentOf(path), batch.folders);
    if (op.op === 'dir') batch.folders.add(op.path);
    const content = this.#carryOut(op, batch.pool);
    for (const path of applyToTree(this.tree, op, content)) batch.changed.add(path);
  }

  /** Refuses what does not fit the tree, before anything is done. */
  #check(op: SyncOp, written: readonly string[]): void {
    const typeAt = (path: string) => this.tree.typeOf(path);
    const refuse = (why: string) => new DumontError('PROTOCOL', `${op.op} ${written[0]}: ${why}`);
    for (const path of written) {
      if (path.split('/').some((name) => name.startsWith(TEMP_FILE_PREFIX))) throw refuse('the name is ours');
      const parent = parentOf(path);
      if (parent !== '' && typeAt(parent) !== 'dir') throw refuse('it lies in no folder');
    }
    const at = op.op === 'rename' ? op.to : op.path;
    const makes = op.op !== 'delete' && op.op !== 'meta' && op.op !== 'append';
    if (makes && op.op !== 'dir' && [at, ...('links' in op ? op.links : [])].some((path) => typeAt(path) === 'dir')) {
      throw refuse('a folder is there');
    }
    if (op.op === 'dir' && (typeAt(at) ?? 'dir') !== 'dir') throw refuse('something else is there');
    if ((op.op === 'meta' || op.op === 'append') && typeAt(at) !== 'file') throw refuse('there is no file');
    if (op.op === 'link' && (typeAt(op.target) !== 'file' || op.target === at)) throw refuse('it has no target');
    if (op.op === 'rename') {
      if (typeAt(op.from) === undefined || `${op.to}/`.startsWith(`${op.from}/`)) throw refuse('it cannot be moved');
      if (typeAt(at) !== undefined && typeAt(op.from) === 'dir') throw refuse('something is there');
    }
    if (op.op === 'append' && fileAt(this.tree, at).entry.group !== 0) throw refuse('it has several names');
  }

  #carryOut(op: SyncOp, pool: ReadonlyMap<string, Uint8Array>): SyncContent | undefined {
    const path = `${this.#root}/${'path' in op ? op.path : op.to}`;
    switch (op.op) {
      case 'dir':
        if (this.tree.typeOf(op.path) === undefined) mkdirSync(path, 0o700);
        return undefined;
      case 'symlink':
        this.#replace(op.path, (temporary) => {
          symlinkSync(op.target, temporary);
          applyToPath(temporary, { type: 'symlink', ...op.meta }, this.#metadataOptions);
        });
        return undefined;
      case 'file':
        this.#makeFile(op, pool);
        this.#relink(op);
        return undefined;
      case 'staged': {
        const stage = this.stage(op.stage);
        const content = stage.finish(op.size, op.holes);
        this.#setMetadata(stage.file, stage.temporary, op);
        renameSync(stage.temporary, path);
        this.freeStages([op.stage]);
        this.#relink(op);
        return content;
      }
      case 'append':
        this.#append(op, pool);
        return undefined;
      case 'meta':
        applyToPath(path, { type: 'file', ...op.meta }, this.#metadataOptions);
        return undefined;
      case 'link':
        this.#replace(op.path, (temporary) => linkSync(`${this.#root}/${op.target}`, temporary));
        return undefined;
      case 'rename':
        renameSync(`${this.#root}/${op.from}`, path);
        // Two names of one inode are left as they are by a rename.
        rmSync(`${this.#root}/${op.from}`, { recursive: true, force: true });
        return undefined;
      case 'delete':
        rmSync(path, { recursive: true, force: true });
        return undefined;
    }
  }

  #makeFile(op: OpOf<'file'>, pool: ReadonlyMap<string, Uint8Array>): void {
    const { size, holes } = op.content;
    const temporary = temporaryPath(this.#root, op.path);
    const file = createTemporary(temporary, { ...toMake(op), size, hasHoles: holes.length > 0 });
    try {
      let end = 0;
      for (const [chunkId, length, offset] of chunkOffsets(op.content)) {
        const bytes = pool.get(chunkId) ?? this.#chunk(chunkId, length);
        if (bytes.length !== length) throw new DumontError('PROTOCOL', `chunk ${chunkId} has another length`);
        writeAt(file, bytes, offset);
        end = offset + length;
      }
      const holeEnd = holes.at(-1);
      if (Math.max(end, holeEnd === undefined ? 0 : holeEnd[0] + holeEnd[1]) !== size) {
        throw new DumontError('PROTOCOL', `the chunks of ${op.path} do not make its size`);
      }
      this.#setMetadata(file, temporary, op);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    } finally {
      closeSync(file);
    }
    renameSync(temporary, `${this.#root}/${op.path}`);
  }

  /** Writes behind a file's end: whenever it is killed the file is what it was with a part of what was appended to it. */
  #append(op: OpOf<'append'>, pool: ReadonlyMap<string, Uint8Array>): void {
    const path = `${this.#root}/${op.path}`;
    const { content } = fileAt(this.tree, op.path).entry;
    const kept = content.chunks.slice(0, op.keep).reduce((sum, [, length]) => sum + length, 0);
    const old = readRange(path, kept, content.size - kept);
    if (content.holes.length > 0 || old === null) throw this.#suspect(op.path);
    const tail = op.tail.map(([chunkId]) => {
      const bytes = pool.get(chunkId);
      if (bytes === undefined) throw new DumontError('PROTOCOL', 'an append comes without its bytes');
      return bytes;
    });
    const bytes = Buffer.concat([old, ...tail]);
    let at = 0;
    for (const [chunkId, length] of op.chunks) {
      if (hashHex(bytes.subarray(at, at + length)) !== chunkId) throw this.#suspect(op.path);
      at += length;
    }
    if (at !== bytes.length || kept + at !== op.size) throw new DumontError('PROTOCOL', 'an append has another size');
    const file = openSync(path, 'r+');
    try {
      writeAt(file, bytes.subarray(old.length), content.size);
      applyToFile(file, path, { type: 'file', ...op.meta }, this.#metadataOptions);
    } finally {
      closeSync(file);
    }
  }

  /** Gives a new file its other names. */
  #relink(op: OpOf<'file'> | OpOf<'staged'>): void {
    for (const link of op.links) {
      this.#replace(link, (temporary) => linkSync(`${this.#root}/${op.path}`, temporary));
    }
  }

  /** A chunk that lies in the folder or in a stage, checked. */
  #chunk(chunkId: string, length: number): Buffer {
    for (const stage of this.#stages.values()) {
      const bytes = stage.read(chunkId, length);
      if (bytes !== null && hashHex(bytes) === chunkId) return bytes;
    }
    const [holder] = this.tree.holders(chunkId);
    if (holder === undefined) throw new DumontError('CORRUPT', `chunk ${chunkId} is not here`, { retryable: true });
    const offset = this.#offsetIn(holder, chunkId);
    const bytes = readRange(`${this.#root}/${holder}`, offset, length);
    if (bytes === null || hashHex(bytes) !== chunkId) throw this.#suspect(holder);
    return bytes;
  }

  #offsetIn(holder: string, chunkId: string): number {
    const version = this.tree.versionOf(holder);
    if (this.#offsets?.version !== version || this.#offsets?.holder !== holder) {
      const byId = new Map<string, number>();
      for (const [id, , offset] of chunkOffsets(fileAt(this.tree, holder).entry.content)) byId.set(id, offset);
      this.#offsets = { holder, version, byId };
    }
    return must(this.#offsets.byId.get(chunkId), 'a holder has the chunk');
  }

  /** Forgets a file that is not what the tree says, so that the comparison that follows finds it. */
  #suspect(path: string): DumontError {
    this.tree.delete(path);
    return new DumontError('CORRUPT', `${path} is not what was synchronized`, { retryable: true });
  }

  #setMetadata(file: number, temporary: string, op: { readonly path: string; readonly meta: SyncMeta }): void {
    const metadata = { type: 'file', ...op.meta } as const;
    const folder = `${this.#root}/${parentOf(op.path)}`;
    if (givesAccessList(folder)) applyToPath(temporary, metadata, this.#metadataOptions);
    else applyToFile(file, temporary, metadata, this.#metadataOptions);
  }

  #replace(path: string, make: (temporary: string) => void): void {
    const temporary = temporaryPath(this.#root, path);
    rmSync(temporary, { force: true });
    make(temporary);
    renameSync(temporary, `${this.#root}/${path}`);
    // Two names of one inode are left as they are by a rename.
    rmSync(temporary, { force: true });
  }

  /** Makes a folder writable for now. */
  #openFolder(path: string, folders: Set<string>): void {
    if (path === '' || folders.has(path)) return;
    folders.add(path);
    const mode = this.tree.get(path)?.entry.meta.mode ?? 0o700;
    if ((mode & 0o700) !== 0o700) chmodSync(`${this.#root}/${path}`, mode | 0o700);
  }

  /** Gives folders that were written to their metadata, deepest first. */
  #finishFolders(folders: ReadonlySet<string>): void {
    for (const path of [...folders].toSorted().toReversed()) {
      const entry = this.tree.get(path)?.entry;
      if (entry?.type !== 'dir') continue;
      applyToPath(`${this.#root}/${path}`, { type: 'dir', ...entry.meta }, this.#metadataOptions);
    }
  }

  #rememberState(path: string): void {
    if (this.tree.typeOf(path) !== 'file') return;
    const stats: BigIntStats | undefined = lstatSync(`${this.#root}/${path}`, { bigint: true, throwIfNoEntry: false });
    if (stats === undefined) return;
    const { size, mtimeNs, ctimeNs, ino, dev } = stats;
    this.tree.setState(path, { size, mtimeNs, ctimeNs, ino, dev, settled: true });
  }

  get #metadataOptions(): MetadataOptions {
    return { owners: this.#owners };
  }
}

function toMake({ path, meta }: OpOf<'file'>) {
  return { type: 'file', path, ...meta, clearsAttributes: false } as const;
}
