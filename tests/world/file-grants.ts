import type { GrantSource } from '@dumont/control-plane/storage/grant-book.ts';
import { fileIssuer } from '@dumont/control-plane/storage/plain-issuers.ts';

/** Grants of a folder, for worlds that are about something else. */
export function fileGrants(path: string): GrantSource {
  const issuer = fileIssuer({ path, prefix: '' });
  const { signal } = new AbortController();
  return { grantFor: (holder) => issuer.issue(holder, { signal }), end: () => {} };
}
