import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Queryable } from '../store/database.ts';
import type { GatewayRow } from '../store/gateways.ts';
import { findMove } from '../store/gateways.ts';
import type { Answer } from './answers.ts';

/** Soon: a move with a machine at hand takes a second or two. */
const RETRY_AFTER_S = 1;

/** What to tell a user while nobody answers for the workspace: where its move stands right now. */
export async function waitingAnswer(db: Queryable, row: GatewayRow, nowMs: number): Promise<Answer> {
  const move = await findMove(db, row.workspaceId);
  const unavailable = { status: 503, code: 'UNAVAILABLE', retryAfterS: RETRY_AFTER_S } as const;
  if (move !== undefined && (move.kind !== 'release' || row.primaryInstanceId === null)) {
    const since = formatDuration(Math.max(0, nowMs - move.sinceMs));
    return { ...unavailable, detail: `${row.name}: ${DOING[move.kind] ?? 'moving'} for ${since}, now ${move.state}.` };
  }
  if (row.primaryInstanceId === null) return { ...unavailable, detail: `No machine serves ${row.name} now.` };
  if (row.ports.http === undefined) {
    return {
      status: 404,
      code: 'NOT_FOUND',
      detail: `${row.name} serves no HTTP.`,
      hint: 'Its policy names no port: ports.http.',
    };
  }
  return {
    ...unavailable,
    detail: `The workload of ${row.name} does not answer on port ${row.ports.http}.`,
    hint: 'It may be starting, or it listens on another address or port.',
  };
}

const DOING: Readonly<Record<string, string>> = {
  failover: 'moving to another machine',
  provision: 'getting its first machine',
  release: 'its machine is being stopped',
};
