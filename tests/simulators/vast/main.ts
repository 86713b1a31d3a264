import { parseArgs } from 'node:util';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { startVastSimulator } from './vast-simulator.ts';

const USAGE = `usage: npm run simulate:vast -- [--port N] [--speed X] [--seed S] [--calm]

  --port N   where to listen on 127.0.0.1 (default 18080; 0: any)
  --speed X  the market's time runs X times as fast: boots, prices, bills, limits (default 1)
  --seed S   of the prices (default 1)
  --calm     every machine behaves; without it some never boot, vanish or are outbid, as in seed-market.csv`;

const DEFAULT_PORT = '18080';

/** Serves the simulator alone, until it is told to stop. */
async function main(signal: AbortSignal): Promise<void> {
  const { port, speed, seed, calm, help } = options();
  if (help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const isCalm = calm === true;
  await using simulator = await startVastSimulator({
    port: amount('port', port, 0),
    speed: amount('speed', speed, 0.001),
    limitSpeed: amount('speed', speed, 0.001),
    seed: amount('seed', seed, 0),
    isCalm,
    pricesMove: true,
  });
  process.stdout.write(`A simulated Vast.ai listens on ${simulator.url}; its machines are processes on this computer.

  Vast's own client:   VAST_URL=${simulator.url} VAST_API_KEY=${simulator.apiKey} vastai search offers
  the control plane:   DUMONT_VAST_URL=${simulator.url} DUMONT_VAST_API_KEY=${simulator.apiKey} npm run serve
  something happens:   curl -d '{"kind":"outbid","instance":31600001}' ${simulator.url}/simulator/faults

Ctrl-C ends it and every machine.
`);
  const stopped = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => stopped.resolve(), { once: true });
  await stopped.promise;
}

function options() {
  const flag = { type: 'boolean' } as const;
  try {
    return parseArgs({
      options: {
        port: { type: 'string', default: DEFAULT_PORT },
        speed: { type: 'string', default: '1' },
        seed: { type: 'string', default: '1' },
        calm: flag,
        help: { ...flag, short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new DumontError('USAGE', error instanceof Error ? error.message : String(error), { hint: USAGE });
  }
}

function amount(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text !== '' && Number.isFinite(value) && value >= least) return value;
  throw new DumontError('USAGE', `--${name} must be a number of at least ${least}`, { field: name, hint: USAGE });
}

await runMain(main);
