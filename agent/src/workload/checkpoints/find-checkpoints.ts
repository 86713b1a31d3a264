import { setImmediate as letOthersRun } from 'node:timers/promises';
import ignore from 'ignore';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { MAX_HEADER_PART_BYTES } from '../../snapshot/tensor/header-reader.ts';
import { throwIfAborted } from '../../storage/object-store.ts';
import { loadIgnoreRules, type IgnoreRules } from '../../workspace/ignore.ts';
import { scanWorkspace, type ScannedEntry } from '../../workspace/scan.ts';
import { judgeFile, type Judgement } from './judge-file.ts';
import { whyFolderIncomplete } from './judge-folder.ts';

/** One checkpoint: a file, or the folder that holds all the files of one. */
export interface Checkpoint {
  /** Relative to the workspace folder. */
  readonly path: string;
  /** Of its newest file. */
  readonly mtimeNs: bigint;
  /** Null when it is whole. */
  readonly reason: string | null;
  /** Its name says already that it is not finished, so nothing takes it for one. */
  readonly isMarked: boolean;
}

/** Formats that trainers and converters write; `.bin` is one only where its content says so. */
const EXTENSION = /\.(?:safetensors|pt|pth|ckpt|bin|gguf|npz|keras)$/i;
/** What programs append to a name until the file is finished. */
const UNFINISHED = /\.(?:tmp|temp|part|partial|incomplete(?:-\d+)?)$/i;
/** Folders that hold one checkpoint each: of Transformers, DeepSpeed, Lightning, Megatron and scripts alike. */
const FOLDER = /^(?:checkpoint|ckpt|global_step|step|epoch|iter|iteration)[-_]?\d+$/i;
const UNFINISHED_FOLDER = /^(?:tmp[-_](?=checkpoint).*|.*\.orbax-checkpoint-tmp-.*|.*\.incomplete(?:-\d+)?)$/i;
/** Programs and their data, no work of the user's. */
const NOT_LOOKED_INTO: ReadonlySet<string> = new Set(['.git', 'node_modules', 'site-packages', '__pycache__']);

export interface FindOptions {
  /** Gitignore syntax: which files are checkpoints, whatever their names. */
  readonly pattern?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Every checkpoint below a folder, whole or not. Reads names, and of checkpoint files their heads and ends; links are not
 * followed.
 * @throws {DumontError} as {@link scanWorkspace}
 */
export async function findCheckpoints(root: string, options: FindOptions): Promise<readonly Checkpoint[]> {
  const { pattern, signal } = options;
  const { entries } = await scanWorkspace(root, outsideOf(await loadIgnoreRules(root)), { signal });
  const wanted = pattern === undefined ? null : ignore({ ignorecase: false }).add(pattern);
  const isCandidate = (path: string) => (wanted === null ? EXTENSION.test(path) : wanted.ignores(path));
  const scratch = Buffer.allocUnsafe(MAX_HEADER_PART_BYTES);
  const units = new Map<string, Checkpoint>();
  for (const entry of entries) {
    if (entry.type !== 'file') continue;
    const finishedPath = entry.path.replace(UNFINISHED, '');
    if (!isCandidate(entry.path) && !isCandidate(finishedPath)) continue;
    throwIfAborted(signal);
    const found = lookAt(root, entry, { scratch, isMarked: finishedPath !== entry.path, isNamed: wanted !== null });
    if (found !== null) units.set(found.path, join(units.get(found.path), found));
    // Reading heads holds the thread: heartbeats' figures and commands get their turn.
    await letOthersRun();
  }
  const isFolder = ({ path }: Checkpoint) => FOLDER.test(lastName(path));
  const folders = [...units.values()].filter(isFolder).map(({ path }) => path);
  for (const unit of units.values()) {
    if (unit.reason !== null || !isFolder(unit)) continue;
    units.set(unit.path, { ...unit, reason: whyFolderIncomplete(root, unit.path, folders) });
  }
  return [...units.values()];
}

function lookAt(
  root: string,
  { path, mtimeNs }: ScannedEntry,
  options: { readonly scratch: Buffer; readonly isMarked: boolean; readonly isNamed: boolean },
): Checkpoint | null {
  const folder = folderOf(path);
  const unit = { path: folder?.path ?? path, mtimeNs };
  if (folder?.isUnfinished === true) return { ...unit, reason: 'its folder is not finished', isMarked: true };
  const isWithin = folder === null ? '' : `${path.slice(folder.path.length + 1)}: `;
  // A left-over beside the finished files of a folder is no part of it.
  if (options.isMarked) return folder === null ? { ...unit, reason: 'its name says so', isMarked: true } : null;
  const judgement = judgeOrNull(`${root}/${path}`, options.scratch);
  if (judgement === null) return null;
  if (judgement.kind === 'unknown' && path.endsWith('.bin') && !options.isNamed) return null;
  const reason = judgement.kind === 'incomplete' ? `${isWithin}${judgement.reason}` : null;
  return { ...unit, reason, isMarked: false };
}

/** Null when it vanished or cannot be read: then nobody else will load it either. */
function judgeOrNull(path: string, scratch: Buffer): Judgement | null {
  try {
    return judgeFile(path, scratch);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return null;
  }
}

/** The outermost folder above a file that holds one checkpoint; null when the file is one by itself. */
function folderOf(path: string): { readonly path: string; readonly isUnfinished: boolean } | null {
  for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
    const folder = path.slice(0, slash);
    const name = lastName(folder);
    const isUnfinished = UNFINISHED_FOLDER.test(name);
    if (isUnfinished || FOLDER.test(name)) return { path: folder, isUnfinished };
  }
  return null;
}

function join(before: Checkpoint | undefined, found: Checkpoint): Checkpoint {
  if (before === undefined) return found;
  const mtimeNs = before.mtimeNs > found.mtimeNs ? before.mtimeNs : found.mtimeNs;
  return { ...found, mtimeNs, reason: before.reason ?? found.reason };
}

function outsideOf(rules: IgnoreRules): IgnoreRules {
  return {
    ignores: (path, isDirectory) =>
      (isDirectory && NOT_LOOKED_INTO.has(lastName(path))) || rules.ignores(path, isDirectory),
  };
}

function lastName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
