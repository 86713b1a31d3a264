import { LocalProvider } from '@dumont/control-plane/providers/local/local-provider.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { localOptions } from './provider-world.ts';

/** A control plane in a process of its own: rents a machine, says which, and stays until it is killed. */
const [, , root = '', controlUrl = ''] = process.argv;
const provider = new LocalProvider(localOptions(root));
const { signal } = new AbortController();
const [offer] = await provider.searchOffers({ signal });
const outcome = await provider.create(
  {
    offer: must(offer, 'the market has offers'),
    label: 'orphan',
    agentEnvironment: { DUMONT_CONTROL_URL: controlUrl },
  },
  { signal },
);
process.stdout.write(`${JSON.stringify(outcome)}\n`);
systemClock.every(60_000, () => {});
