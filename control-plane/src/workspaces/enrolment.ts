import type { EnrolAnswer, EnrolBody } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { setCredential } from '../store/credentials.ts';
import type { Database, Queryable } from '../store/database.ts';
import {
  claimMisuseReport,
  insertEnrolment,
  lockEnrolment,
  markEnrolmentUsed,
  revokeEnrolments,
  type EnrolmentRow,
} from '../store/enrolments.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance, type InstanceRow } from '../store/instances.ts';
import { drawSecret, hashSecret } from './credentials.ts';

/** A token that is tried again and again is one piece of news, not thousands. */
const REPORT_GAP_MS = 60_000;

/** Why a token admits nobody, for events and words. */
export type EnrolRefusal = 'unknown' | 'used' | 'revoked' | 'expired' | 'released';

export interface EnrolmentParts {
  readonly db: Database;
  readonly clock: Clock;
  /** Called after each commit that appended events. */
  readonly onChange: () => void;
}

type Outcome =
  | { readonly kind: 'joined'; readonly answer: EnrolAnswer }
  | { readonly kind: 'refused'; readonly reason: EnrolRefusal };

/** Draws a one-time token for an instance and stores its hash. Call it in the transaction that writes the instance. */
export async function issueEnrolToken(
  tx: Queryable,
  instanceId: InstanceId,
  when: { readonly atMs: number; readonly expiresAtMs: number },
): Promise<string> {
  const token = drawSecret();
  await insertEnrolment(tx, { hash: hashSecret(token), instanceId, ...when });
  return token;
}

/**
 * Exchanges a one-time token for an identity. The same token with the same credential answers the same for as long as
 * the machine is held, so a lost answer costs nothing; a misuse is reported as `enrolment.refused`.
 * @param address where the call came from, for the report
 * @throws {DumontError} UNAUTHORIZED for a token that is unknown, used with another credential, revoked or expired;
 *   CONFLICT for one of a machine that was given back
 */
export async function enrol(parts: EnrolmentParts, body: EnrolBody, address: string): Promise<EnrolAnswer> {
  const outcome = await parts.db.transaction((tx) => exchange(parts, tx, { body, address }));
  parts.onChange();
  if (outcome.kind === 'joined') return outcome.answer;
  throw refusal(outcome.reason);
}

/** Makes the unused token of an instance worthless. @returns false when there was none */
export async function revokeEnrolment(parts: EnrolmentParts, instance: InstanceRow): Promise<boolean> {
  const revoked = await parts.db.transaction(async (tx) => {
    const atMs = parts.clock.nowMs();
    if (!(await revokeEnrolments(tx, instance.id, atMs))) return false;
    const { workspaceId, operationId, id: instanceId } = instance;
    await appendEvent(tx, { type: 'enrolment.revoked', atMs, workspaceId, instanceId, operationId });
    return true;
  });
  if (revoked) parts.onChange();
  return revoked;
}

interface Attempt {
  readonly body: EnrolBody;
  readonly address: string;
}

async function exchange(parts: EnrolmentParts, tx: Queryable, attempt: Attempt): Promise<Outcome> {
  const { body } = attempt;
  const atMs = parts.clock.nowMs();
  const token = await lockEnrolment(tx, hashSecret(body.enrolToken));
  // Nothing is known of it, so it is no misuse of anything: the rate limit and the log are for strangers.
  if (token === undefined) return { kind: 'refused', reason: 'unknown' };
  const instance = must(await findInstance(tx, token.instanceId), 'a token belongs to an instance');
  const credentialHash = hashSecret(body.credential);
  const reason = objection(token, instance, { credentialHash, atMs });
  if (reason !== undefined) {
    await report(tx, { token, instance, reason, attempt, atMs });
    return { kind: 'refused', reason };
  }
  const { id: instanceId, role, workspaceId, operationId } = instance;
  if (token.usedAtMs === null) {
    await markEnrolmentUsed(tx, token.hash, { credentialHash, atMs });
    await setCredential(tx, instanceId, credentialHash);
    const { hostname, agentVersion } = body;
    const data = { hostname, agentVersion, address: attempt.address };
    await appendEvent(tx, { type: 'enrolment.used', atMs, workspaceId, instanceId, operationId, data });
  }
  return { kind: 'joined', answer: { instanceId, role, workspaceId } };
}

/** Why this token does not admit this credential now; undefined when it does. Pure. */
function objection(
  token: EnrolmentRow,
  instance: Pick<InstanceRow, 'state'>,
  now: { readonly credentialHash: string; readonly atMs: number },
): EnrolRefusal | undefined {
  // Both are hashes, so how long a comparison takes tells nothing of what was hashed.
  if (token.usedAtMs !== null && token.credentialHash !== now.credentialHash) return 'used';
  if (instance.state === 'releasing' || instance.state === 'gone') return 'released';
  if (token.usedAtMs !== null) return undefined;
  if (token.revokedAtMs !== null) return 'revoked';
  return now.atMs >= token.expiresAtMs ? 'expired' : undefined;
}

async function report(
  tx: Queryable,
  misuse: {
    readonly token: EnrolmentRow;
    readonly instance: InstanceRow;
    readonly reason: EnrolRefusal;
    readonly attempt: Attempt;
    readonly atMs: number;
  },
): Promise<void> {
  const { token, instance, reason, attempt, atMs } = misuse;
  if (!(await claimMisuseReport(tx, token.hash, { atMs, gapMs: REPORT_GAP_MS }))) return;
  const { id: instanceId, workspaceId, operationId } = instance;
  const data = { reason, hostname: attempt.body.hostname, address: attempt.address };
  await appendEvent(tx, { type: 'enrolment.refused', atMs, workspaceId, instanceId, operationId, data });
}

const NEW_TOKEN = 'Ask for a new one: dumont machines add --workspace NAME.';

const WORDS: Readonly<Record<EnrolRefusal, { readonly message: string; readonly hint: string }>> = {
  unknown: {
    message: 'this control plane does not know the enrolment token',
    hint: 'Check that it was copied whole and that DUMONT_CONTROL_URL is the control plane that gave it out.',
  },
  used: {
    message: 'the enrolment token was used already, by an agent with another credential',
    hint: `A token is good for one machine. If none of yours used it, look at "dumont events" for whom. ${NEW_TOKEN}`,
  },
  revoked: { message: 'the enrolment token was revoked by an operator', hint: NEW_TOKEN },
  expired: { message: 'the enrolment token has expired', hint: NEW_TOKEN },
  released: { message: 'the machine of this enrolment token was given back', hint: NEW_TOKEN },
};

function refusal(reason: EnrolRefusal): DumontError {
  const { message, hint } = WORDS[reason];
  return new DumontError(reason === 'released' ? 'CONFLICT' : 'UNAUTHORIZED', message, { hint, field: 'enrolToken' });
}
