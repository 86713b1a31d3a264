import type { LastUpgrade } from '@dumont/shared/protocol/hello.ts';
import type { Database, Queryable } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { putSetting, settingsBelow } from '../store/settings.ts';

const ROLLED_BACK = 'agent-version-rolled-back:';

/** Writes down how an upgrade ended, as its agent tells in its hello. */
export async function recordUpgrade(
  db: Database,
  instance: Pick<InstanceRow, 'id' | 'workspaceId'>,
  upgrade: LastUpgrade,
  atMs: number,
): Promise<void> {
  const isRolledBack = upgrade.outcome === 'rolled-back';
  await db.transaction(async (tx) => {
    await appendEvent(tx, {
      type: isRolledBack ? 'agent.upgrade-failed' : 'agent.upgraded',
      atMs,
      workspaceId: instance.workspaceId,
      instanceId: instance.id,
      data: { ...upgrade },
    });
    if (isRolledBack) await putSetting(tx, ROLLED_BACK + upgrade.to, upgrade.reason ?? '');
  });
}

/** Versions that had to be rolled back on any machine, ever: not to be offered on our own account. */
export async function rolledBackVersions(db: Queryable): Promise<ReadonlySet<string>> {
  const settings = await settingsBelow(db, ROLLED_BACK);
  return new Set([...settings.keys()].map((key) => key.slice(ROLLED_BACK.length)));
}
