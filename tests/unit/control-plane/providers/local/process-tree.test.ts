import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  continueMachine,
  identify,
  isAlive,
  killMachine,
  livePids,
  stopMachine,
} from '@dumont/control-plane/providers/local/process-tree.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../../conformance/provider-world.ts';

/** A shell script as the leader of a machine, in a session of its own. */
async function startMachine(ref: string, script: string) {
  const leader = spawn('/bin/sh', ['-c', script], {
    detached: true,
    stdio: 'ignore',
    env: { ...process.env, DUMONT_MACHINE_REF: ref },
  });
  await once(leader, 'spawn');
  const machine = { ref, leader: await identify(pidOf(leader)) };
  return { leader, machine };
}

const pidOf = (child: ChildProcess) => must(child.pid, 'it was spawned');
const onLinux = process.platform === 'linux';

test.runIf(onLinux)('finds children that left the session and children that cleared their environment', async () => {
  const { machine } = await startMachine(
    'ref-a',
    'setsid sleep 600 & env -i sleep 601 & env -i setsid sleep 602 & wait',
  );
  await eventually('the leader and three children', async () => (await livePids(machine)).length === 4);
  // The processes of another machine are not touched.
  const other = await startMachine('ref-ab', 'sleep 603 & wait');
  await killMachine(machine, systemClock);
  expect(await livePids(machine)).toEqual([]);
  await eventually('two live processes', async () => (await livePids(other.machine)).length === 2);
  await killMachine(other.machine, systemClock);
});

test.runIf(onLinux)('outruns a machine that keeps forking', async () => {
  const { machine } = await startMachine('ref-fork', 'while :; do setsid sleep 600 & sleep 0.001; done');
  await eventually('some children', async () => (await livePids(machine)).length > 5);
  await killMachine(machine, systemClock);
  expect(await livePids(machine)).toEqual([]);
});

test('stops and continues a whole machine, and kills it while stopped', async () => {
  const { machine, leader } = await startMachine('ref-stop', 'while :; do sleep 0.01; done');
  // Often enough to hit the moments in which the shell is just starting a child.
  for (let round = 0; round < 20; round += 1) {
    await stopMachine(machine, systemClock);
    expect(await isAlive(must(machine.leader, 'it lives'))).toBe(true);
    await continueMachine(machine, systemClock);
  }
  await stopMachine(machine, systemClock);
  const exited = once(leader, 'exit');
  await killMachine(machine, systemClock);
  await exited;
  expect(await isAlive(must(machine.leader, 'it lived'))).toBe(false);
});

test('a process is recognised by its start, not by its number alone', async () => {
  const me = must(await identify(process.pid), 'this process lives');
  expect(await isAlive(me)).toBe(true);
  expect(await isAlive({ ...me, startedAt: `${me.startedAt}0` })).toBe(false);
});
