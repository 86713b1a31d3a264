import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { presignedUrl } from './presign.ts';

const TIMEOUT_MS = 30_000;

/** Removes one object of a workspace; nothing happens where it is gone already. */
export type RemoveObject = (
  workspaceId: WorkspaceId,
  key: string,
  options: { readonly signal: AbortSignal },
) => Promise<void>;

/**
 * Removal with the operator's own keys: no machine has the right to delete.
 * @returns a function that throws {@link DumontError} IO or UNAVAILABLE, retryable, when the store does not do it now
 */
export function objectRemover(storage: DirectGrant, clock: Clock): RemoveObject {
  return async (workspaceId, key, { signal }) => {
    const name = storage.prefix + workspacePrefix(workspaceId) + key;
    if (storage.kind === 'file') {
      await rm(join(storage.path, name), { force: true }).catch((error: unknown) => {
        throw toDumontError(error, 'IO', `removing ${key}`);
      });
      return;
    }
    const options = { nowMs: clock.nowMs(), expiresInMs: TIMEOUT_MS };
    const url = presignedUrl(storage, { method: 'DELETE', key: name }, options);
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const response = await fetch(url, { method: 'DELETE', redirect: 'error', signal: bounded }).catch(
      (cause: unknown) => {
        throw new DumontError('UNAVAILABLE', `removing ${key}: the store did not answer`, { retryable: true, cause });
      },
    );
    await response.body?.cancel();
    if (response.ok || response.status === 404) return;
    throw new DumontError('UNAVAILABLE', `removing ${key}: the store answered ${response.status}`, { retryable: true });
  };
}
