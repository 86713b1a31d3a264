import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import type { Refused } from '@dumont/shared/protocol/hello.ts';

/** Why the link ended for good. Only `stopped`, `restarting` and `released` are the good order of things. */
export interface LinkEnd {
  readonly reason: 'stopped' | 'restarting' | 'released' | 'superseded' | 'unauthorized' | 'broken';
  readonly message: string;
  readonly hint?: string;
}

/**
 * What a close by the control plane means: an end for good, or null for "reconnect". A refusal that came just before
 * gives the words.
 */
export function endOfClose(closeCode: number, refused: Refused | null): LinkEnd | null {
  const words = refused === null ? {} : { message: refused.message, ...hintOf(refused.hint) };
  switch (closeCode) {
    case CLOSE_CODES.unauthorized:
      return {
        reason: 'unauthorized',
        message: "the control plane does not accept this machine's credential",
        hint: 'To join anew, remove credential.json from the state directory and enrol with a new token.',
        ...words,
      };
    case CLOSE_CODES.released:
      return { reason: 'released', message: 'this instance was released', ...words };
    case CLOSE_CODES.superseded:
      return {
        reason: 'superseded',
        message: 'a newer agent process of this instance took over',
        hint: 'Two agents run with the same credential.json; the newer one goes on.',
        ...words,
      };
    default:
      return null;
  }
}

function hintOf(hint: string | undefined): { readonly hint?: string } {
  return hint === undefined ? {} : { hint };
}
