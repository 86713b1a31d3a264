import { describeProvider } from './provider-contract.ts';
import { TensorDockWorld } from './tensordock-world.ts';

describeProvider('tensordock', () => TensorDockWorld.open());
