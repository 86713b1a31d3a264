/** What stands in place of a secret. */
const CENSORED = '[redacted]';

/** Deeper is no log field of ours, but an object that should not have been logged at all; also ends cycles. */
const MAX_DEPTH = 8;
const TOO_DEEP = '[too deep]';

/** Words that make a field's name that of a secret when it ends with one of them (`enrolToken`, `newPassword`). */
const SECRET_ENDINGS = [
  'token',
  'tokens',
  'secret',
  'secrets',
  'password',
  'passphrase',
  'credential',
  'credentials',
  'authorization',
  'cookie',
  'apikey',
  'accesskey',
  'applicationkey',
  'masterkey',
  'privatekey',
  'secretkey',
] as const;
/** Names that are secrets as they stand; as an ending, `key` would also hide the names of objects in a store. */
const SECRET_NAMES: ReadonlySet<string> = new Set(['key', 'keys', 'accesskeyid', 'keyid', 'privkey', 'seed']);

/** True for a field whose value nobody may read in a log: `token`, `secretAccessKey`, `SNAPSHOT_PASSWORD`. Pure. */
export function isSecretName(name: string): boolean {
  const plain = name.toLowerCase().replace(/[^a-z0-9]/g, '');
  return SECRET_NAMES.has(plain) || SECRET_ENDINGS.some((ending) => plain.endsWith(ending));
}

/**
 * A copy of log fields in which every value under a secret's name is {@link CENSORED}, at any depth and in lists. Only
 * plain objects and lists are looked into; numbers, booleans and null stay, since no secret is one. Pure.
 */
export function censorSecrets(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return censorObject(fields, 0);
}

/** In place of a secret. How many tokens there are is none, nor that there is not one. Pure. */
export function censored(value: unknown): unknown {
  return typeof value === 'string' || (typeof value === 'object' && value !== null) ? CENSORED : value;
}

function censorObject(fields: object, depth: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      isSecretName(name) ? censored(value) : censorValue(value, depth + 1),
    ]),
  );
}

function censorValue(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const isList = Array.isArray(value);
  if (!isList && !isPlain(value)) return value;
  if (depth > MAX_DEPTH) return TOO_DEEP;
  return isList ? value.map((each) => censorValue(each, depth + 1)) : censorObject(value, depth);
}

/** Made by `{}` or without a prototype: what else is logged (errors, dates, addresses) knows how to print itself. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
