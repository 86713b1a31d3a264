import { listDetection } from '../../store/detection.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { detectionView } from '../views.ts';

export function detectionHandlers({ db, clock }: ApiServices): Pick<Handlers, 'listDetection'> {
  return {
    listDetection: async ({ query }) => {
      const rows = await listDetection(db, { ...query, nowMs: clock.nowMs() });
      return { items: rows.map(detectionView) };
    },
  };
}
