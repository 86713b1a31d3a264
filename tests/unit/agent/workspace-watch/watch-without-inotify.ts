import { WorkspaceWatcher } from '@dumont/agent/workspace/watch.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from '../../../world/eventually.ts';

/** Child process of watch.test.ts: watches the folder named by its argument and tells what became of it. */
const watcher = new WorkspaceWatcher({
  root: process.argv[2] ?? '',
  ignore: { ignores: () => false },
  clock: systemClock,
  log: createLogger('test', 'info'),
  onFirstDirty: () => {},
  fallbackIntervalMs: 50,
});
await watcher.start();
await eventually('the watcher falls back', () => watcher.mode === 'rescanning');
watcher.take();
let periodicMarks = 0;
while (periodicMarks < 3) {
  await eventually('everything is dirty again', () => watcher.take()?.paths === 'everything');
  periodicMarks += 1;
}
await watcher[Symbol.asyncDispose]();
process.stdout.write(JSON.stringify({ mode: watcher.mode, periodicMarks }));
