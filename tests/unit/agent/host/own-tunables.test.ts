import { withoutOwnTunables } from '@dumont/agent/host/own-tunables.ts';
import { expect, test } from 'vitest';

const PATH = '/bin';
const OURS = 'glibc.malloc.arena_max=1';
const THEIRS = 'glibc.malloc.arena_max=8';

test('what the supervisor set for the agent is not for its workload', () => {
  expect(withoutOwnTunables({ PATH, GLIBC_TUNABLES: OURS, DUMONT_OWN_TUNABLES: OURS })).toEqual({ PATH });
});

test('tunables that an operator chose reach the workload', () => {
  expect(withoutOwnTunables({ PATH, GLIBC_TUNABLES: THEIRS })).toEqual({ PATH, GLIBC_TUNABLES: THEIRS });
  const overridden = { PATH, GLIBC_TUNABLES: THEIRS, DUMONT_OWN_TUNABLES: OURS };
  expect(withoutOwnTunables(overridden)).toEqual({ PATH, GLIBC_TUNABLES: THEIRS });
  expect(withoutOwnTunables({ PATH })).toEqual({ PATH });
});
