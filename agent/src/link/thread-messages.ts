import type { Hello } from '@dumont/shared/protocol/hello.ts';
import type { Downstream, Upstream } from '@dumont/shared/protocol/messages.ts';
import type { LinkEnd } from './link-end.ts';
import type { LinkState } from './link-state.ts';

/** What the main thread gives the link thread at its start. */
export interface LinkThreadData {
  readonly url: string;
  readonly hello: Hello;
  readonly boardBuffer: SharedArrayBuffer;
}

/** Main thread → link thread. */
export type ToLink =
  | { readonly type: 'send'; readonly message: Upstream }
  | { readonly type: 'credential'; readonly credential: string }
  | { readonly type: 'stop'; readonly reason: StopReason };

/** `restarting`: another process of this agent goes on in a moment. */
export type StopReason = 'stopped' | 'restarting';

/** Link thread → main thread. */
export type FromLink =
  | { readonly type: 'state'; readonly state: LinkState }
  | { readonly type: 'message'; readonly message: Downstream }
  | { readonly type: 'trouble'; readonly trouble: LinkTrouble }
  | { readonly type: 'ended'; readonly end: LinkEnd };

/** Why a connection was lost and when the next attempt comes; for the log. */
export interface LinkTrouble {
  readonly doing: 'connect' | 'greet' | 'beat' | 'decode';
  readonly message: string;
  readonly retryInMs: number;
}
