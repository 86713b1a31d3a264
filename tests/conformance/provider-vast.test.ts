import { describeProvider } from './provider-contract.ts';
import { VastWorld } from '../world/vast-world.ts';

describeProvider('vast', async () => {
  const world = await VastWorld.open();
  return {
    provider: world.provider,
    another: () => world.another(),
    agentEnvironment: {},
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});
