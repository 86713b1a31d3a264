import { createHash, randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { createApiClient } from '@dumont/shared/api/client.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { AGENT_VERSION } from '../version.ts';
import type { CredentialFile, CredentialRecord, Identity } from './credential-file.ts';
import { explainEnrolFailure } from './enrol-failure.ts';
import { planJoin } from './plan-join.ts';

/** A machine boots faster than its network; a control plane that restarts is back within seconds. */
const RETRY = { baseMs: 250, capMs: 10_000 } as const;
/** One attempt; the answer takes one transaction. */
const ATTEMPT_TIMEOUT_MS = 10_000;

export interface JoinParts {
  readonly file: CredentialFile;
  /** Base URL of the control plane, http or https. */
  readonly controlUrl: string;
  readonly enrolToken: string | null;
  readonly clock: Clock;
  readonly random: Random;
  /** Told of each failed attempt that is followed by another. */
  readonly onRetry: (failure: DumontError, retryInMs: number) => void;
}

/** How an agent stands to its control plane after {@link join}. */
export type Membership =
  | { readonly kind: 'joined' | 'member'; readonly identity: Identity; readonly isOtherToken: boolean }
  | { readonly kind: 'released'; readonly identity: Identity };

/** 256 random bits: what the control plane knows an agent by. */
export function drawCredential(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * Gives the agent its identity: the one on disk, or a new one for the one-time token. The credential is on disk before
 * the control plane hears of it, so a crash or a lost answer costs another attempt and nothing else.
 * @param options.patienceMs for how long a control plane that cannot be reached is tried again; null: for ever
 * @throws {DumontError} UNAUTHORIZED for a token that admits nobody, UNAVAILABLE when the patience is over, USAGE,
 *   CONFLICT, IO, ABORTED
 */
export async function join(
  parts: JoinParts,
  options: { readonly patienceMs: number | null; readonly signal: AbortSignal },
): Promise<Membership> {
  const { file, controlUrl, enrolToken, clock } = parts;
  const tokenHash = enrolToken === null ? null : createHash('sha256').update(enrolToken).digest('hex');
  const plan = planJoin(file.record, { controlUrl, tokenHash }, file.path);
  if (plan.kind !== 'enrol') return plan;
  if (enrolToken === null || tokenHash === null) throw new DumontError('INTERNAL', 'an enrolment without a token');
  const pending: CredentialRecord = {
    controlUrl,
    tokenHash,
    credential: plan.credential ?? drawCredential(),
    next: null,
    sinceMs: clock.nowMs(),
    identity: null,
    isReleased: false,
  };
  await file.write(pending);
  const identity = await askUntilAnswered(parts, { enrolToken, credential: pending.credential }, options);
  await file.write({ ...pending, identity });
  return { kind: 'joined', identity, isOtherToken: false };
}

async function askUntilAnswered(
  parts: JoinParts,
  secrets: { readonly enrolToken: string; readonly credential: string },
  options: { readonly patienceMs: number | null; readonly signal: AbortSignal },
): Promise<Identity> {
  const { controlUrl, clock, random, onRetry } = parts;
  const client = createApiClient({ baseUrl: controlUrl, clock, random, signal: options.signal });
  const startedMs = clock.monotonicMs();
  const body = { ...secrets, hostname: hostname().slice(0, 255), agentVersion: AGENT_VERSION };
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await client.call('enrol', { body, timeoutMs: ATTEMPT_TIMEOUT_MS });
    } catch (error) {
      const failure = explainEnrolFailure(toDumontError(error), { controlUrl, nowMs: clock.nowMs() });
      const retryInMs = backoffMs(attempt, RETRY, random);
      const triedMs = clock.monotonicMs() - startedMs + retryInMs;
      const isPatient = options.patienceMs === null || triedMs <= options.patienceMs;
      if (!failure.retryable || !isPatient || options.signal.aborted) throw failure;
      onRetry(failure, retryInMs);
      await clock.sleep(retryInMs, options.signal).catch((reason: unknown) => {
        throw new DumontError('ABORTED', 'stopped before the control plane answered', { cause: reason });
      });
    }
  }
}
