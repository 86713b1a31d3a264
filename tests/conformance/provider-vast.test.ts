import { existsSync } from 'node:fs';
import { describe } from 'vitest';
import { VastWorld } from '../world/vast-world.ts';
import { describeProvider } from './provider-contract.ts';

describe.skipIf(!existsSync('/usr/sbin/sshd'))('with machines that have an SSH server', () => {
  describeProvider('vast', async () => {
    const world = await VastWorld.open();
    return {
      provider: world.provider,
      another: () => world.another(),
      agentEnvironment: {},
      [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
    };
  });
});
