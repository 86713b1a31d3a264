import type { NewKey } from '@dumont/agent/secrets/key-object.ts';

/** A key whose password takes milliseconds to try, for tests only. */
export const QUICK_KEY: NewKey = { createdAtMs: 1_700_000_000_000, label: 'test', scryptLog2N: 10 };
