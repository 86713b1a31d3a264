import type { SignAnswer, StoreRequest } from '@dumont/shared/protocol/signed-request.ts';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { GrantHolder } from './grant-issuer.ts';
import { presignedUrl } from './presign.ts';

/** Used at once, so short: it is also how long a machine may still write after it was fenced. The clocks have to agree by it. */
const SIGNED_FOR_MS = 300_000;

/** Names of ASCII letters, digits, `.`, `_` and `-` joined by `/`, none starting with a dot: nothing a server could fold. */
const KEY_PATTERN = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*(?:[A-Za-z0-9_-][A-Za-z0-9._-]*)?$/;

/** Signs requests of machines that have no keys, each only below its workspace's prefix. */
export class RequestSigner {
  readonly #account: BucketGrant;
  readonly #clock: Clock;

  constructor(account: BucketGrant, clock: Clock) {
    this.#account = account;
    this.#clock = clock;
  }

  /**
   * Whether the holder may have a grant at all is decided before.
   * @throws {DumontError} UNAUTHORIZED for a key outside the workspace; then nothing is signed
   */
  sign(holder: Pick<GrantHolder, 'workspaceId'>, requests: readonly StoreRequest[]): SignAnswer {
    const prefix = this.#account.prefix + workspacePrefix(holder.workspaceId);
    for (const request of requests) assertBelow(prefix, request);
    const nowMs = this.#clock.nowMs();
    const options = { nowMs, expiresInMs: SIGNED_FOR_MS };
    const urls = requests.map((request) => presignedUrl(this.#account, request, options));
    return { urls, expiresAtMs: nowMs + SIGNED_FOR_MS };
  }
}

function assertBelow(prefix: string, request: StoreRequest): void {
  const name = request.method === 'LIST' ? request.prefix : request.key;
  const isWhole = request.method === 'LIST' || !name.endsWith('/');
  if (name.startsWith(prefix) && KEY_PATTERN.test(name) && isWhole) return;
  throw new DumontError('UNAUTHORIZED', `${request.method} ${JSON.stringify(name)} is outside of this workspace`, {
    field: 'requests',
    hint: `Every key of it starts with ${prefix}`,
  });
}
