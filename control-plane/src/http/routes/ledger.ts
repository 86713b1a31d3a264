import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { LedgerRow } from '../../store/ledger.ts';
import { ledgerTotals, listLedger } from '../../store/ledger.ts';
import { readPage } from '../cursor.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { ledgerView } from '../views.ts';

/** A destruction is proven in seconds; what takes longer is worth a look. */
const ORPHAN_AFTER_MS = 60_000;

export function ledgerHandlers(services: ApiServices): Pick<Handlers, 'listLedger'> {
  const { db, clock } = services;
  return {
    listLedger: async ({ query }) => {
      const { items, next } = await readPage(query, {
        name: 'ledger',
        keyOf: (row: LedgerRow) => row.instanceId,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) => listLedger(db, { includeGone: query.all === 'true', before: key, limit }),
      });
      const nowMs = clock.nowMs();
      const totals = await ledgerTotals(db, { nowMs, orphanAfterMs: ORPHAN_AFTER_MS });
      return { items: items.map((row) => ledgerView(row, nowMs)), next, totals };
    },
  };
}
