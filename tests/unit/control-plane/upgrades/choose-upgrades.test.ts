import { chooseUpgrades } from '@dumont/control-plane/upgrades/choose-upgrades.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const [a, b] = [newId('workspace'), newId('workspace')];
const agent = (workspaceId: typeof a, role: 'gpu' | 'standby' = 'gpu') => ({
  instanceId: newId('instance'),
  workspaceId,
  role,
});

test('standbys come first, one of a workspace at a time, and whoever is away or being moved waits', () => {
  const [primary, standby, other, away] = [agent(a), agent(a, 'standby'), agent(b), agent(newId('workspace'))];
  const waiting = [primary, standby, other, away];
  const isConnected = (id: string) => id !== away.instanceId;
  expect(chooseUpgrades(waiting, { slots: 4, busyWorkspaces: new Set(), isConnected })).toEqual([standby, other]);
  expect(chooseUpgrades(waiting, { slots: 4, busyWorkspaces: new Set([a]), isConnected })).toEqual([other]);
  expect(chooseUpgrades(waiting, { slots: 0, busyWorkspaces: new Set(), isConnected })).toEqual([]);
});

test('never more than the slots, never two of a workspace', () => {
  const workspaces = [a, b, newId('workspace')];
  const candidate = fc.record({ at: fc.nat(2), role: fc.constantFrom('gpu' as const, 'standby' as const) });
  fc.assert(
    fc.property(fc.array(candidate, { maxLength: 12 }), fc.nat(5), (drawn, slots) => {
      const waiting = drawn.map(({ at, role }) => agent(workspaces[at] ?? a, role));
      const chosen = chooseUpgrades(waiting, { slots, busyWorkspaces: new Set(), isConnected: () => true });
      expect(chosen.length).toBeLessThanOrEqual(slots);
      expect(new Set(chosen.map(({ workspaceId }) => workspaceId)).size).toBe(chosen.length);
    }),
  );
});
