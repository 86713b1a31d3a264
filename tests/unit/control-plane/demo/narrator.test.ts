import { narrate } from '@dumont/control-plane/demo/narrator.ts';
import type { EventType } from '@dumont/control-plane/store/event-types.ts';
import { EVENT_TYPES } from '@dumont/control-plane/store/event-types.ts';
import type { EventView } from '@dumont/shared/api/views.ts';
import { FAILOVER_EVENTS } from '@dumont/shared/model/failover.ts';
import { expect, test } from 'vitest';

/** These tell somebody who watches nothing that another line does not tell better. */
const SILENT: ReadonlySet<EventType> = new Set([
  'provision.started',
  'release.started',
  'standby.started',
  'operation.finished',
  'machine.releasing',
  'restore.progress',
  'enrolment.used',
  'enrolment.revoked',
  'credential.replaced',
  'agent.upgrade-offered',
  'gateway.moved',
  'branch.deleted',
  'test.started',
]);

function event(type: string, data: EventView['data'] = {}): EventView {
  return { eventId: 1, atMs: 1, type, workspaceId: null, instanceId: null, operationId: null, data };
}

test('every type of event has words or is silent on purpose', () => {
  const step = { kind: 'failover', from: 'restoring', event: 'restored' };
  const unspoken = EVENT_TYPES.filter((type) => narrate(event(type, step)) === undefined);
  expect(new Set(unspoken)).toEqual(SILENT);
  expect(narrate(event('future.thing'))).toBeUndefined();
});

test('data that is missing or odd never breaks the story', () => {
  for (const type of EVENT_TYPES) {
    for (const value of [undefined, null, 'text', Number.NaN, {}]) {
      const data = Object.fromEntries(
        ['silenceMs', 'detectMs', 'epoch', 'seq', 'costMicroUsd'].map((key) => [key, value]),
      );
      expect(() => narrate(event(type, data))).not.toThrow();
    }
  }
});

test('the story of a loss says how long it took and why it was believed', () => {
  expect(narrate(event('instance.suspect', { silenceMs: 612 }))).toContain('612 ms');
  const detected = { trigger: 'detector', detectMs: 640, reason: 'silence, probe-refused' };
  expect(narrate(event('failover.started', detected))).toMatch(/640 ms.*probe-refused/s);
  expect(narrate(event('failover.started', { trigger: 'operator' }))).not.toContain('CONFIRMED');
  expect(narrate(event('workspace.on-standby', { behindMs: 45 }), 'cheap-1')).toMatch(/cheap-1.*STANDBY.*45 ms/);
  const back = { handedOver: true, servedMs: 41_000, pauseMs: 640 };
  expect(narrate(event('workspace.back', back), 'host-2')).toMatch(/BACK.*host-2.*41\.0 s.*640 ms/);
  expect(narrate(event('workspace.back', { handedOver: false }), 'host-2')).toContain('lost as well');
  expect(narrate(event('machine.gone', { costMicroUsd: 31_200 }))).toContain('$0.0312');
});

test('steps of a move are told by what they achieved, those of a release not at all', () => {
  const told = FAILOVER_EVENTS.filter(
    (name) => narrate(event('operation.step', { kind: 'failover', from: 'x', event: name })) !== undefined,
  );
  expect(told).toEqual(['restored', 'headMoved', 'workloadChecked', 'switched', 'attemptFailed']);
  expect(narrate(event('operation.step', { kind: 'release', from: 'saving', event: 'saved' }))).toBeUndefined();
});
