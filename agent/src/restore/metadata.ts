import {
  chmodSync,
  chownSync,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  lutimesSync,
  utimesSync,
} from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { getAttributeSync, listAttributesSync, removeAttributeSync, setAttributeSync } from '@napi-rs/xattr';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { isSameTime } from '../snapshot/draft.ts';

export type EntryWithMetadata = Exclude<Entry, { type: 'hardlink' }>;

/** What of an entry is put on its file. */
export type Metadata = Pick<EntryWithMetadata, 'type' | 'mode' | 'uid' | 'gid' | 'mtimeNs'> & {
  readonly xattrs?: readonly (readonly [string, string])[] | undefined;
};

/** Whether owners are set too; only root can. */
export interface MetadataOptions {
  readonly owners: boolean;
}

/** Attributes that snapshots hold, and so that a restore may remove; all others belong to the machine. */
const MANAGED_ATTRIBUTE = /^(user\.|security\.capability$|system\.posix_acl_(access|default)$)/;

/** True when this process can set owners. */
export function mayChangeOwners(): boolean {
  return process.geteuid?.() === 0;
}

/**
 * Sets owner, attributes, mode and modification time of a new file, in the order in which they last: a new owner clears
 * setuid, and an attribute can change the mode.
 * @param file open for writing, lies at `path`
 * @returns what could not be set: one line for each attribute
 */
export function applyToFile(
  file: number,
  path: string,
  metadata: Metadata,
  { owners }: MetadataOptions,
): readonly string[] {
  if (owners) fchownSync(file, metadata.uid, metadata.gid);
  const flaws = metadata.xattrs === undefined ? [] : setAttributes(path, metadata.xattrs);
  fchmodSync(file, metadata.mode);
  const time = seconds(metadata.mtimeNs);
  futimesSync(file, time, time);
  return flaws;
}

/** The same for what is at `path`, whatever it is; attributes that the entry lacks are removed. */
export function applyToPath(path: string, metadata: Metadata, { owners }: MetadataOptions): readonly string[] {
  const time = seconds(metadata.mtimeNs);
  if (metadata.type === 'symlink') {
    if (owners) lchownSync(path, metadata.uid, metadata.gid);
    lutimesSync(path, time, time);
    return [];
  }
  if (owners) chownSync(path, metadata.uid, metadata.gid);
  const wanted = metadata.xattrs ?? [];
  const flaws = [...removeAttributes(path, wanted), ...setAttributes(path, wanted)];
  chmodSync(path, metadata.mode);
  utimesSync(path, time, time);
  return flaws;
}

/** True when {@link applyToPath} would change nothing that is stored. */
export function hasMetadata(
  path: string,
  stats: BigIntStats,
  metadata: Metadata,
  { owners }: MetadataOptions,
): boolean {
  if (owners && (Number(stats.uid) !== metadata.uid || Number(stats.gid) !== metadata.gid)) return false;
  if (!isSameTime(stats.mtimeNs, BigInt(metadata.mtimeNs))) return false;
  if (metadata.type === 'symlink') return true;
  return Number(stats.mode & 0o7777n) === metadata.mode && hasAttributes(path, metadata.xattrs ?? []);
}

/** True when files made in the folder get an access list from it, which a snapshot may not know of. */
export function givesAccessList(folder: string): boolean {
  return listManaged(folder).includes('system.posix_acl_default');
}

function hasAttributes(path: string, wanted: readonly (readonly [string, string])[]): boolean {
  const present = listManaged(path);
  if (present.length !== wanted.length) return false;
  return wanted.every(([name, value]) => {
    if (!present.includes(name)) return false;
    return getAttributeSync(path, name)?.equals(Buffer.from(value, 'base64')) === true;
  });
}

function listManaged(path: string): readonly string[] {
  try {
    return listAttributesSync(path).filter((name) => MANAGED_ATTRIBUTE.test(name));
  } catch {
    // A file system without attributes has none; one that refuses to list them will refuse to set them, and that is told.
    return [];
  }
}

function setAttributes(path: string, wanted: readonly (readonly [string, string])[]): readonly string[] {
  return wanted.flatMap(([name, value]) => {
    return attempt(name, () => setAttributeSync(path, name, Buffer.from(value, 'base64')));
  });
}

function removeAttributes(path: string, wanted: readonly (readonly [string, string])[]): readonly string[] {
  const surplus = listManaged(path).filter((name) => !wanted.some(([kept]) => kept === name));
  return surplus.flatMap((name) => attempt(name, () => removeAttributeSync(path, name)));
}

function attempt(name: string, change: () => void): readonly string[] {
  try {
    change();
    return [];
  } catch (error) {
    return [`${name}: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/**
 * Node sets times from doubles of seconds: right to within a microsecond. As text, because Node takes a negative number
 * for "now".
 */
function seconds(ns: string): string {
  return String(Number(ns) / 1e9);
}
