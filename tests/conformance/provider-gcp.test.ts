import { GcpWorld } from './gcp-world.ts';
import { describeProvider } from './provider-contract.ts';

describeProvider('gcp', () => GcpWorld.open());
