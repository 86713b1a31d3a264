import { setTimeout as sleep } from 'node:timers/promises';

/** Polls until the probe gives a value other than undefined, null or false; fails with the description in time. */
export async function eventually<T>(
  description: string,
  probe: () => T | Promise<T>,
  withinMs = 10_000,
): Promise<NonNullable<Exclude<T, false>>> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== null && value !== false) return value as NonNullable<Exclude<T, false>>;
    if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${description}`);
    await sleep(10);
  }
}
