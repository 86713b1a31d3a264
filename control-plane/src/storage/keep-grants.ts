import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { ControlSecrets } from '../config.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { currentStanding } from '../workspaces/assignments.ts';
import { issuerFor } from './choose-issuer.ts';
import { GrantBook, type GrantTrouble } from './grant-book.ts';

interface GrantParts {
  readonly secrets: ControlSecrets;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly db: Database;
  /** Woken after each event. */
  readonly events: { wake(): void };
}

/** Those who talk to agents; they are built from the book. */
interface AgentSide {
  readonly hub: { isConnected(instanceId: InstanceId): boolean };
  readonly wardship: { inform(instanceId: InstanceId): Promise<void> };
}

/** The book of this installation's grants; `connect` closes the circle with those who tell agents, before the first socket. */
export function keepGrants(
  parts: GrantParts,
  stack: AsyncDisposableStack,
): { readonly book: GrantBook; readonly connect: (side: AgentSide) => void } {
  const { secrets, clock, random, log, db } = parts;
  let side: AgentSide | undefined;
  const issuer = issuerFor(secrets.grants, secrets.storage, { clock, db });
  if (Symbol.asyncDispose in issuer) stack.use(issuer as unknown as AsyncDisposable);
  if (issuer.way === 'account') {
    log.warn(
      { event: 'storage.account-grants' },
      'STORAGE_GRANTS=account: every machine gets the keys of the whole bucket, and whoever breaks into one can read, overwrite and delete every workspace',
    );
  }
  const book = new GrantBook({
    issuer,
    clock,
    random,
    log,
    mayHold: async (instanceId) => {
      if (side?.hub.isConnected(instanceId) !== true) return false;
      return (await currentStanding(db, instanceId))?.mayUseStore === true;
    },
    onRenewed: async (instanceId) => side?.wardship.inform(instanceId),
    onTrouble: async (trouble) => {
      await writeDown(db, trouble, clock.nowMs());
      parts.events.wake();
    },
  });
  stack.use(book);
  return { book, connect: (agents) => (side = agents) };
}

async function writeDown(db: Database, trouble: GrantTrouble, atMs: number): Promise<void> {
  const { kind, holder, way, error, expiresAtMs } = trouble;
  await appendEvent(db, {
    type: kind === 'failed' ? 'storage.grant-failed' : 'storage.grant-recovered',
    atMs,
    workspaceId: holder.workspaceId,
    instanceId: holder.instanceId,
    data: { way, expiresAtMs, ...(error !== null && { message: error.message, hint: error.hint }) },
  });
}
