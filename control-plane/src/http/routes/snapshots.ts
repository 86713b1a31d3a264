import type { SnapshotRow } from '../../store/snapshots.ts';
import { listSnapshots } from '../../store/snapshots.ts';
import { readPage } from '../cursor.ts';
import { requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { snapshotView } from '../views.ts';

export function snapshotHandlers(services: ApiServices): Pick<Handlers, 'listSnapshots' | 'takeSnapshot'> {
  const { db } = services;
  return {
    listSnapshots: async ({ query }) => {
      const workspace = await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'snapshots',
        keyOf: (row: SnapshotRow) => String(row.seq),
        keyPattern: /^\d{1,15}$/,
        read: ({ key, limit }) =>
          listSnapshots(db, {
            workspaceId: workspace.id,
            belowSeq: key === undefined ? undefined : Number(key),
            limit,
          }),
      });
      return { items: items.map((row) => snapshotView(row, workspace)), next };
    },
    takeSnapshot: async ({ body, signal }) => {
      const before = await requireWorkspace(db, body.workspace);
      const row = await services.takeSnapshot(before.id, { signal });
      if (row === null) return { snapshot: null };
      // Read again: the snapshot moved the head.
      return { snapshot: snapshotView(row, await requireWorkspace(db, before.id)) };
    },
  };
}
