/** Thrown when the program itself is wrong; never for bad input. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** States an invariant; stays on in production. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The value, which the program's own logic guarantees to be there. */
export function must<T>(value: T | null | undefined, message: string): T {
  assert(value !== null && value !== undefined, message);
  return value;
}

/** Closes an exhaustive switch: the compiler rejects a call that can be reached. */
export function assertNever(value: never): never {
  throw new AssertionError(`unexpected value ${JSON.stringify(value)}`);
}
