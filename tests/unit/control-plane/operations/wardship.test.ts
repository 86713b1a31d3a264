import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import { MachineLocator } from '@dumont/control-plane/detect/machine-locator.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import { Wardship } from '@dumont/control-plane/operations/wardship.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { fileGrants } from '../../../world/file-grants.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';
import { ScriptedAgents } from './scripted-agents.ts';

const GRACE_MS = 10_000;

function wardshipOn(db: ConstructorParameters<typeof Wardship>[0]['db']) {
  const clock = new ManualClock();
  const log = createLogger('test', 'silent');
  const agents = new ScriptedAgents(clock);
  const verdicts: Verdict['kind'][] = [];
  const monitor = new HeartbeatMonitor({
    clock,
    log,
    corroborator: { corroborate: async () => [] },
    onVerdict: ({ kind }) => void verdicts.push(kind),
    loopLagMs: () => 0,
  });
  const provider = new MemoryProvider();
  const locator = new MachineLocator({ db, providers: new Map([[provider.name, provider]]) });
  const settings = { heartbeatIntervalMs: 200, storage: fileGrants('/none') };
  const wardship = new Wardship({ db, hub: agents, monitor, locator, settings, graceMs: GRACE_MS, clock, log });
  return { clock, agents, monitor, wardship, verdicts, provider };
}

onEachDatabase((database) => {
  test('after a restart every primary is watched, and one that never speaks never counts as alive', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const primary = await someInstance(db, workspaceId);
    await db.query('update workspaces set primary_instance_id = $1', [primary]);
    const { clock, monitor, wardship, verdicts } = wardshipOn(db);
    await using _ = monitor;
    await wardship.resume();
    expect(monitor.status(primary)?.state).toBe('grace');
    let wasAlive = false;
    while (!verdicts.includes('commit')) {
      await clock.advance(25);
      wasAlive ||= wardship.isAlive(primary);
    }
    expect(wasAlive).toBe(false);
    expect(clock.monotonicMs()).toBeGreaterThan(GRACE_MS);
  });

  test('a connected primary that beats is alive until it is no longer watched', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const primary = await someInstance(db, await someWorkspace(db));
    const { clock, agents, monitor, wardship } = wardshipOn(db);
    await using _ = monitor;
    wardship.watch(primary, 'fast');
    agents.connect(primary);
    for (let seq = 0; seq < 4; seq += 1) {
      await clock.advance(200);
      const beat = { epoch: 1, mainLagMs: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'running' } as const;
      monitor.observe(primary, { kind: 'heartbeat', seq, monotonicMs: seq * 200, ...beat }, clock.monotonicMs());
    }
    expect(wardship.isAlive(primary)).toBe(true);
    wardship.unwatch(primary);
    expect(wardship.isAlive(primary)).toBe(false);
  });

  test('learning the address of a primary ends in time when its provider does not answer', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const primary = await someInstance(db, await someWorkspace(db));
    await db.query(
      "update instances set provider_ref = 'machine-1', offer = jsonb_set(offer, '{provider}', $2) where id = $1",
      [primary, JSON.stringify('memory')],
    );
    const { clock, monitor, wardship, provider } = wardshipOn(db);
    await using _ = monitor;
    const asked = Promise.withResolvers<AbortSignal>();
    provider.show = (_ref, options) => {
      asked.resolve(must(options?.signal, 'calls have a signal'));
      return new Promise(() => {});
    };
    wardship.watch(primary, 'fast');
    const signal = await asked.promise;
    await clock.advance(29_999);
    expect(signal.aborted).toBe(false);
    await clock.advance(1);
    expect(signal.aborted).toBe(true);
  });

  test('only an agent that is connected and known is told its standing', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const instanceId = await someInstance(db, await someWorkspace(db));
    const { agents, monitor, wardship } = wardshipOn(db);
    await using _ = monitor;
    await wardship.inform(instanceId);
    await wardship.inform(newId('instance'));
    expect(agents.assignments.size).toBe(0);
    agents.connect(instanceId);
    await wardship.inform(instanceId);
    expect(agents.assignments.get(instanceId)).toMatchObject({ standing: 'fenced', epoch: 0 });
  });
});
