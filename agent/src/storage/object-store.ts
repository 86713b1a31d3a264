import { DumontError } from '@dumont/shared/util/errors.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface PutOptions extends CallOptions {
  /** Leave an existing object alone. */
  readonly ifAbsent?: boolean;
}

export interface GetOptions extends CallOptions {
  /** Exactly these bytes, `length` at least 1; without it the whole object. */
  readonly range?: { readonly offset: number; readonly length: number };
}

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** When the store says it was written, Unix ms by the store's clock. */
  readonly modifiedMs: number;
}

export interface ObjectStat {
  readonly sizeBytes: number;
  /** MD5 of the whole object, hex, where the store tells it. */
  readonly md5?: string;
}

/**
 * Where snapshots live. Objects are immutable by our use of them: a key is written once, whole, and is either absent or
 * complete for every reader; once `put` returns, the bytes survive a crash of the store's own machine as far as the store
 * promises that.
 *
 * Keys are what {@link assertKey} accepts. Errors are DumontErrors: UNAVAILABLE with `retryable` for what may pass by
 * itself, UNAUTHORIZED for refused credentials, ABORTED when the signal fired, USAGE for a bad key, IO for a local disk.
 */
export interface ObjectStore {
  /**
   * Stores an object of at most {@link MAX_OBJECT_BYTES}. The bytes must not change until it returns.
   * With `ifAbsent`, `exists` means that an object of that key was there and was not touched. A store without conditional
   * writes looks before it writes, so two simultaneous writers may both get `stored`: callers give every object a key that
   * only its own bytes can have, or that no other writer makes.
   */
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'>;
  /** @throws {DumontError} NOT_FOUND when there is no such object; CORRUPT when it ends before the range does. */
  get(key: string, options?: GetOptions): Promise<Uint8Array>;
  /** Null when there is no such object. */
  stat(key: string, options?: CallOptions): Promise<ObjectStat | null>;
  /** Every object whose key starts with `prefix`, ascending by key. What is written meanwhile may be missing. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo>;
  /** Removes an object; nothing happens when there is none. */
  delete(key: string, options?: CallOptions): Promise<void>;
}

/** Largest object read or written whole, bytes: several packs, and every manifest of the format. */
const MAX_OBJECT_BYTES = 512 * 1024 * 1024;

const SEGMENT_PATTERN = /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/;
/** The shortest limit among the services we use. */
const MAX_KEY_LENGTH = 1_024;

/**
 * Keys are names of ASCII letters, digits, `.`, `_` and `-`, joined by `/`; no name starts with a dot, so that a key can
 * be a path below a folder without leaving it or meeting the store's own temporary files.
 * @throws {DumontError} USAGE
 */
export function assertKey(key: string): void {
  if (key.length <= MAX_KEY_LENGTH && key.split('/').every((segment) => SEGMENT_PATTERN.test(segment))) return;
  throw new DumontError('USAGE', `${JSON.stringify(key.slice(0, 200))} is not a key of an object store`);
}

/** A prefix is empty, a key, or a key and a slash. @throws {DumontError} USAGE */
export function assertPrefix(prefix: string): void {
  if (prefix !== '') assertKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** @throws {DumontError} LIMIT for an object above {@link MAX_OBJECT_BYTES} */
export function assertObjectSize(key: string, sizeBytes: number): void {
  if (sizeBytes <= MAX_OBJECT_BYTES) return;
  throw new DumontError('LIMIT', `object ${key} has ${sizeBytes} bytes, the limit is ${MAX_OBJECT_BYTES}`);
}

/** The signal's abort as our error. @throws {DumontError} ABORTED */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new DumontError('ABORTED', 'stopped on request', { cause: signal.reason });
}
