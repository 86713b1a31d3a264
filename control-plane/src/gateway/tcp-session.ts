import type { Socket } from 'node:net';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { dial } from './dial.ts';
import type { GatewayLimits } from './gateway-limits.ts';
import { Link } from './link.ts';
import type { Routes } from './routes.ts';
import type { Session, Sessions } from './sessions.ts';

export interface TcpSessionParts {
  readonly routes: Routes;
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly limits: GatewayLimits;
}

/** Between two tries to reach a machine: its SSH server comes up at some moment, and nobody rings then. */
const RETRY_MS = 50;

/**
 * Serves one connection to a workspace's SSH address: holds it while there is no machine, joins it with the one that
 * serves the workspace, and ends it when that one loses the workspace. Resolves when the connection is closed; never
 * rejects. The socket must arrive paused: nothing is read from the user before the machine has spoken.
 */
export async function serveTcp(user: Socket, workspaceId: WorkspaceId, parts: TcpSessionParts): Promise<void> {
  user.on('error', ignore);
  const session = parts.sessions.open(workspaceId);
  if (session === null) {
    refuse(user, 'too many connections to this workspace', parts);
    return;
  }
  try {
    const link = await connectHeld(user, workspaceId, { parts, session });
    if (link !== null) await link.closed;
    else refuse(user, 'no machine serves this workspace now, try again', parts);
  } finally {
    session.close();
  }
}

async function connectHeld(
  user: Socket,
  workspaceId: WorkspaceId,
  { parts, session }: { readonly parts: TcpSessionParts; readonly session: Session },
): Promise<Link | null> {
  const { routes, clock, limits } = parts;
  const gone = new AbortController();
  user.once('close', () => gone.abort());
  const deadlineMs = clock.monotonicMs() + limits.holdMs;
  while (!gone.signal.aborted && clock.monotonicMs() < deadlineMs) {
    const link = await tryOnce(user, workspaceId, { parts, session, gone: gone.signal });
    if (link !== null) return link;
    await routes.changed.wait({ clock, atMostMs: RETRY_MS, signal: gone.signal }).catch(ignore);
  }
  return null;
}

async function tryOnce(
  user: Socket,
  workspaceId: WorkspaceId,
  context: { readonly parts: TcpSessionParts; readonly session: Session; readonly gone: AbortSignal },
): Promise<Link | null> {
  const { parts, session, gone } = context;
  const { routes, clock, limits } = parts;
  const target = await routes.target(workspaceId, 'ssh');
  if (target === null) return null;
  const moved = new AbortController();
  session.serve(target.instanceId, () => moved.abort());
  const dialled = await dial(target.address, {
    clock,
    connectTimeoutMs: limits.connectTimeoutMs,
    greetingMs: limits.greetingMs,
    signal: AbortSignal.any([gone, moved.signal]),
  });
  if (dialled === null) {
    if (!moved.signal.aborted && !gone.aborted) routes.doubt(target);
    return null;
  }
  // Moved between the machine's greeting and now: the user has seen nothing of it yet.
  if (moved.signal.aborted || !routes.isPrimary(workspaceId, target.instanceId)) {
    dialled.socket.destroy();
    return null;
  }
  const link = new Link({ user, machine: dialled.socket }, { clock, limits });
  session.serve(target.instanceId, () => link.hangUp());
  return link;
}

/** SSH allows a server lines of text before its version (RFC 4253, section 4.2), so there is room for a reason. */
function refuse(user: Socket, reason: string, { clock, limits }: TcpSessionParts): void {
  if (user.destroyed) return;
  user.end(`dumont: ${reason}\r\n`);
  user.resume();
  const cancel = clock.after(limits.lingerMs, () => user.destroy());
  user.once('close', cancel);
}

function ignore(): void {}
