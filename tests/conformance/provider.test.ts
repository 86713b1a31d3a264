import { describeProvider } from './provider-contract.ts';
import { LocalWorld } from './provider-world.ts';

describeProvider('local', async () => {
  const world = await LocalWorld.open();
  return {
    provider: world.provider,
    another: () => world.another(),
    agentEnvironment: { DUMONT_CONTROL_URL: world.listener.url },
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});
