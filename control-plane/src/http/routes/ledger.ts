import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { LedgerRow } from '../../store/ledger.ts';
import { listLedger } from '../../store/ledger.ts';
import { readPage } from '../cursor.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { ledgerView } from '../views.ts';

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
      return { items: items.map((row) => ledgerView(row, clock.nowMs())), next };
    },
  };
}
