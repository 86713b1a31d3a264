import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { MachineAddress, ProviderRef, SshAccess } from '../../providers/provider.ts';
import { startupScript } from '../../providers/startup-script.ts';
import type { Database } from '../../store/database.ts';
import { appendEvent } from '../../store/events.ts';
import { findInstance } from '../../store/instances.ts';
import { noteBootTimes, pinHostKey } from '../../store/machine-boots.ts';
import { issueEnrolToken } from '../../workspaces/enrolment.ts';
import { ensureSshIdentity } from './ssh-identity.ts';
import { SshSession } from './ssh-session.ts';

/** A machine that lets nobody in for so long after it is up never will: keys take a minute at most to have effect. */
const OPEN_WITHIN_MS = 90_000;
const RETRY_PAUSE_MS = 2_000;

export interface BootstrapParts {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  /** Environment of every agent besides its token. */
  readonly agentEnvironment: Readonly<Record<string, string>>;
  /** From its drawing until an enrolment token is worthless, ms. */
  readonly enrolTokenMs: number;
  /** Called after each commit that appended events. */
  readonly onChange: () => void;
}

export interface BootstrapTarget {
  readonly instanceId: InstanceId;
  readonly ref: ProviderRef;
  readonly address: MachineAddress;
  readonly access: SshAccess;
  /** Called once we are in. */
  readonly onLetIn: () => void;
}

/**
 * - `installed`: the installer ended well; the agent's hello is what remains
 * - `not-installed`: the machine lets us in, and the installer failed there
 * - `closed`: nobody was let in
 * - `untrusted`: its host key is not the one it showed first
 */
export type BootstrapOutcome =
  | { readonly kind: 'installed' }
  | { readonly kind: 'not-installed' | 'closed' | 'untrusted'; readonly reason: string };

/**
 * Installs the agent over SSH, with our own installer and a fresh one-time token; a machine whose agent is enrolled is left
 * alone. Repeating it is safe. The time until we are in and the host key are kept with the machine's boot. The agent's
 * hello comes before the installer's end, which waits for it: aborting then harms nothing.
 * @throws the signal's reason, and what the database throws
 */
export async function bootstrapOverSsh(
  parts: BootstrapParts,
  target: BootstrapTarget,
  { signal }: { readonly signal: AbortSignal },
): Promise<BootstrapOutcome> {
  const startedMs = parts.clock.monotonicMs();
  try {
    await using session = await openPatiently(parts, target, signal);
    target.onLetIn();
    const sshMs = parts.clock.monotonicMs() - startedMs;
    await noteBootTimes(parts.db, target.instanceId, { sshMs });
    await record(parts, target, { type: 'machine.ssh-install', data: { sshMs } });
    await session.run(await scriptFor(parts, target.instanceId), { signal });
    return { kind: 'installed' };
  } catch (error) {
    signal.throwIfAborted();
    if (!isDumontError(error)) throw error;
    const reason = error.message;
    if (error.code === 'CONFLICT') return { kind: 'untrusted', reason };
    return { kind: error.code === 'TIMEOUT' ? 'closed' : 'not-installed', reason };
  }
}

/** @throws {DumontError} TIMEOUT when nobody was let in; CONFLICT for another host key than before */
async function openPatiently(parts: BootstrapParts, target: BootstrapTarget, signal: AbortSignal): Promise<SshSession> {
  const { clock, log } = parts;
  const untilMs = clock.monotonicMs() + OPEN_WITHIN_MS;
  const { privateKey, publicKey } = await ensureSshIdentity(parts.db);
  const login = {
    address: target.address,
    user: target.access.user,
    privateKey,
    clock,
    verifyHostKey: (fingerprint: string) => verify(parts, target, fingerprint),
  };
  let isLetIn = false;
  for (;;) {
    try {
      if (!isLetIn) await target.access.letIn(target.ref, publicKey, { signal });
      isLetIn = true;
      return await SshSession.open(login, { signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!isDumontError(error) || error.code === 'CONFLICT') throw error;
      if (clock.monotonicMs() + RETRY_PAUSE_MS >= untilMs) {
        throw new DumontError('TIMEOUT', `its SSH server let nobody in within ${OPEN_WITHIN_MS} ms: ${error.message}`, {
          cause: error,
        });
      }
      const { instanceId } = target;
      log.debug({ event: 'bootstrap.retry', instanceId, reason: error.message }, 'not let in yet, will try again');
    }
    await clock.sleep(RETRY_PAUSE_MS, signal);
  }
}

/** The first host key that a machine shows is the one it must show from then on. */
async function verify(parts: BootstrapParts, target: BootstrapTarget, fingerprint: string): Promise<void> {
  const pinned = await pinHostKey(parts.db, target.instanceId, fingerprint);
  if (pinned === undefined || pinned === fingerprint) return;
  await record(parts, target, { type: 'machine.host-key-changed', data: { pinned, shown: fingerprint } });
  throw new DumontError(
    'CONFLICT',
    `the SSH host key of ${target.instanceId} changed from SHA256:${pinned} to SHA256:${fingerprint}`,
    { hint: 'Somebody else may answer at its address: it is not trusted with a token, and another machine is rented.' },
  );
}

/** With a token of its own: the start script may be using the other one right now. */
async function scriptFor(parts: BootstrapParts, instanceId: InstanceId): Promise<string> {
  const atMs = parts.clock.nowMs();
  const token = await issueEnrolToken(parts.db, instanceId, { atMs, expiresAtMs: atMs + parts.enrolTokenMs });
  return startupScript({ ...parts.agentEnvironment, DUMONT_ENROL_TOKEN: token });
}

async function record(
  parts: BootstrapParts,
  { instanceId }: BootstrapTarget,
  event: Pick<Parameters<typeof appendEvent>[1], 'type' | 'data'>,
): Promise<void> {
  const instance = await findInstance(parts.db, instanceId);
  const { workspaceId = null, operationId = null } = instance ?? {};
  await appendEvent(parts.db, { ...event, atMs: parts.clock.nowMs(), workspaceId, instanceId, operationId });
  parts.onChange();
}
