import { API_PREFIX } from '@dumont/shared/api/endpoint.ts';
import { SIGN_PATH } from '@dumont/shared/protocol/signed-request.ts';
import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { providerOfEndpoint } from '@dumont/shared/storage/storage-profile.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { GrantHolder, GrantIssuer } from './grant-issuer.ts';

/** A folder per workspace. Nothing enforces it: whoever can write the folder can write all of it. */
export function fileIssuer(store: { readonly path: string; readonly prefix: string }): GrantIssuer {
  return {
    way: 'file',
    issue: ({ workspaceId }) =>
      Promise.resolve({ kind: 'file', path: store.path, prefix: store.prefix + workspacePrefix(workspaceId) }),
  };
}

/** The operator's own keys: whoever reads a machine's memory holds the whole bucket. Only on the operator's word. */
export function accountIssuer(account: BucketGrant): GrantIssuer {
  return { way: 'account', issue: (holder) => Promise.resolve(inWorkspace(account, holder)) };
}

/** The right to ask for signed requests; nothing in it is secret. */
export function presignedIssuer(account: BucketGrant): GrantIssuer {
  return {
    way: 'presigned',
    issue: (holder) => {
      const { prefix } = inWorkspace(account, holder);
      const profile = account.profile ?? providerOfEndpoint(account.endpoint);
      return Promise.resolve({ kind: 'presigned', profile, signPath: API_PREFIX + SIGN_PATH, prefix });
    },
  };
}

function inWorkspace(account: BucketGrant, { workspaceId }: GrantHolder): Extract<StorageGrant, { kind: 's3' }> {
  return { ...account, prefix: account.prefix + workspacePrefix(workspaceId) };
}
