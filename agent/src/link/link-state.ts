import type { TransitionTable } from '@dumont/shared/model/transition.ts';

/**
 * The life of the control link.
 * - `idle`: not started
 * - `connecting`: TCP, TLS and the WebSocket handshake are under way
 * - `greeting`: `hello` was sent, `welcome` has not come
 * - `online`: welcomed; beats flow
 * - `waiting`: the connection is gone, the next attempt is scheduled
 * - `closed`: ended for good, by us or by a refusal that retrying cannot change
 */
export const LINK_STATES = ['idle', 'connecting', 'greeting', 'online', 'waiting', 'closed'] as const;
export type LinkState = (typeof LINK_STATES)[number];

export type LinkEvent = 'start' | 'opened' | 'welcomed' | 'lost' | 'retry' | 'ended';

/** Late events of an earlier socket find `stay`: they change nothing. */
export const LINK_TABLE: TransitionTable<LinkState, LinkEvent> = {
  idle: { start: 'connecting', opened: 'stay', welcomed: 'stay', lost: 'stay', retry: 'stay', ended: 'closed' },
  connecting: { start: 'stay', opened: 'greeting', welcomed: 'stay', lost: 'waiting', retry: 'stay', ended: 'closed' },
  greeting: { start: 'stay', opened: 'stay', welcomed: 'online', lost: 'waiting', retry: 'stay', ended: 'closed' },
  online: { start: 'stay', opened: 'stay', welcomed: 'stay', lost: 'waiting', retry: 'stay', ended: 'closed' },
  waiting: { start: 'stay', opened: 'stay', welcomed: 'stay', lost: 'stay', retry: 'connecting', ended: 'closed' },
  closed: { start: 'stay', opened: 'stay', welcomed: 'stay', lost: 'stay', retry: 'stay', ended: 'stay' },
};
