/** A string that only its own module family may pass around; erased at run time. */
type Branded<Name extends string> = string & { readonly __brand: Name };

export type WorkspaceId = Branded<'WorkspaceId'>;
export type InstanceId = Branded<'InstanceId'>;
export type SnapshotId = Branded<'SnapshotId'>;
export type OperationId = Branded<'OperationId'>;
export type CommandId = Branded<'CommandId'>;
export type BranchId = Branded<'BranchId'>;

const PREFIXES = {
  workspace: 'ws',
  instance: 'in',
  snapshot: 'sn',
  operation: 'op',
  command: 'cm',
  branch: 'br',
} as const;

interface IdByNoun {
  workspace: WorkspaceId;
  instance: InstanceId;
  snapshot: SnapshotId;
  operation: OperationId;
  command: CommandId;
  branch: BranchId;
}

/** What every id of ours looks like: a two-letter noun, an underscore, 20 lower-case base-32 characters. */
export const ID_PATTERN = /^(?:ws|in|sn|op|cm|br)_[0-9a-hjkmnp-tv-z]{20}$/;

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** A fresh id, 100 random bits: unique without coordination, safe in paths, URLs and labels. */
export function newId<Noun extends keyof IdByNoun>(noun: Noun): IdByNoun[Noun] {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(20));
  let text = `${PREFIXES[noun]}_`;
  for (const byte of bytes) text += ALPHABET[byte & 31];
  return text as IdByNoun[Noun];
}
