import { STANDBY_SYNC_PORT } from '@dumont/shared/protocol/sync.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { EndpointBook } from '../gateway/machine-endpoints.ts';
import type { StandbySync } from './standby-sync.ts';

/** An agent waits for its assignment: a provider that takes longer is heard in the next one. */
const LOCATE_WAIT_MS = 1_000;

/** Standbys as assignments tell of them, by the addresses that providers gave their machines. */
export function standbySync(
  secret: string,
  parts: { readonly endpoints: Pick<EndpointBook, 'locate'>; readonly clock: Clock },
): StandbySync {
  return {
    secret,
    locate: async (instanceId) => {
      const waiting = new AbortController();
      const tooLate = parts.clock.sleep(LOCATE_WAIT_MS, waiting.signal).then(
        () => null,
        () => null,
      );
      const known = await Promise.race([parts.endpoints.locate(instanceId), tooLate]);
      waiting.abort();
      return known?.ports.get(STANDBY_SYNC_PORT) ?? null;
    },
  };
}
