import { z } from 'zod';
import type { BranchId, CommandId, InstanceId, SnapshotId, WorkspaceId } from '../model/ids.ts';
import { ID_PATTERN } from '../model/ids.ts';

function idSchema<Id extends string>(prefix: string) {
  return z
    .string()
    .regex(ID_PATTERN, `must look like ${prefix}_ and 20 lower-case characters`)
    .startsWith(`${prefix}_`)
    .transform((text) => text as Id);
}

export const workspaceIdSchema = idSchema<WorkspaceId>('ws');
export const instanceIdSchema = idSchema<InstanceId>('in');
export const snapshotIdSchema = idSchema<SnapshotId>('sn');
export const commandIdSchema = idSchema<CommandId>('cm');
export const branchIdSchema = idSchema<BranchId>('br');

/** 32 random bytes in base64url: an agent's credential and an enrolment token look the same. */
export const credentialSchema = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 43 characters of base64url');

export const epochSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
export const countSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
export const wallMsSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
