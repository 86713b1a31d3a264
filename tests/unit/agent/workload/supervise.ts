import { Workload } from '@dumont/agent/workload/workload.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';

/** Child process of workload.test.ts: supervises a command in the folder named by its argument until it is killed. */
const folder = process.argv[2] ?? '';
const workload = new Workload({
  workspaceDir: folder,
  stateDir: folder,
  environment: { PATH: process.env['PATH'] ?? '' },
  clock: systemClock,
  random: systemRandom,
  log: createLogger('test', 'silent'),
  onState: () => {},
});
await workload.start(
  { command: 'echo first; exec sleep 60', restart: true },
  { stableMs: 0, signal: new AbortController().signal },
);
