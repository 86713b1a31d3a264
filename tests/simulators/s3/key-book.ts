import { randomBytes } from 'node:crypto';
import type { Allows, Wish } from './policy.ts';
import type { Credentials } from './sigv4.ts';

interface IssuedKey extends Credentials {
  readonly expiresAtMs: number;
  readonly allows: Allows;
  /** What the service says once it is over. */
  readonly expiredCode: 'ExpiredToken' | 'InvalidAccessKeyId';
}

/** The keys a service knows: the account's own, which may do everything, and those that were made from it. */
export class KeyBook {
  /** Every key made so far, by id; deleting one ends it. */
  readonly issued = new Map<string, IssuedKey>();
  readonly #account: Credentials;

  constructor(account: Credentials) {
    this.#account = account;
  }

  find(keyId: string): Credentials | undefined {
    return keyId === this.#account.accessKeyId ? this.#account : this.issued.get(keyId);
  }

  isAccount(keyId: string): boolean {
    return keyId === this.#account.accessKeyId;
  }

  issue(key: Omit<IssuedKey, keyof Credentials>, options: { readonly withToken: boolean }): Credentials {
    const accessKeyId = `key-${randomBytes(8).toString('hex')}`;
    const secretAccessKey = randomBytes(20).toString('base64url');
    const token = options.withToken ? { sessionToken: randomBytes(40).toString('base64url') } : {};
    const credentials = { accessKeyId, secretAccessKey, ...token };
    this.issued.set(accessKeyId, { ...credentials, ...key });
    return credentials;
  }

  /** An S3 error code for what this key may not do now. */
  objection(keyId: string, wish: Wish, nowMs: number): string | undefined {
    if (this.isAccount(keyId)) return undefined;
    const key = this.issued.get(keyId);
    if (key === undefined) return 'InvalidAccessKeyId';
    if (nowMs >= key.expiresAtMs) return key.expiredCode;
    return key.allows(wish) ? undefined : 'AccessDenied';
  }
}
