import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CredentialRecord, Identity } from './credential-file.ts';

/** What is to be done about an identity, given what is on disk and what the environment says. */
export type JoinPlan =
  /** It has one. `isOtherToken`: a token it did not enrol with was given besides. */
  | { readonly kind: 'member'; readonly identity: Identity; readonly isOtherToken: boolean }
  /** `credential` was written down by an attempt whose answer is not known; null: draw one. */
  | { readonly kind: 'enrol'; readonly credential: string | null }
  /** The machine was given back, and no new token was given. */
  | { readonly kind: 'released'; readonly identity: Identity };

export interface JoinWish {
  readonly controlUrl: string;
  /** Hex SHA-256 of the one-time token; null without one. */
  readonly tokenHash: string | null;
}

/**
 * Pure. An identity is replaced only when it is over; an attempt without an answer goes on with the same credential as
 * long as it is the same question.
 * @throws {DumontError} USAGE without identity and token, CONFLICT for an identity of another control plane
 */
export function planJoin(record: CredentialRecord | null, wish: JoinWish, path: string): JoinPlan {
  const isOtherToken = wish.tokenHash !== null && wish.tokenHash !== record?.tokenHash;
  const identity = record?.identity ?? null;
  if (record === null || identity === null) {
    if (wish.tokenHash === null) throw withoutToken();
    const isSameQuestion = record !== null && record.controlUrl === wish.controlUrl && !isOtherToken;
    return { kind: 'enrol', credential: isSameQuestion ? record.credential : null };
  }
  if (record.isReleased) return isOtherToken ? { kind: 'enrol', credential: null } : { kind: 'released', identity };
  if (record.controlUrl !== wish.controlUrl) {
    throw new DumontError(
      'CONFLICT',
      `${path} belongs to ${identity.instanceId} of ${record.controlUrl}, not of ${wish.controlUrl}`,
      {
        field: 'DUMONT_CONTROL_URL',
        hint: `Set DUMONT_CONTROL_URL back to ${record.controlUrl}; to leave it for good, remove the file and enrol with a new token.`,
      },
    );
  }
  return { kind: 'member', identity, isOtherToken };
}

function withoutToken(): DumontError {
  return new DumontError('USAGE', 'this machine has not joined a control plane, and there is no token to join with', {
    field: 'DUMONT_ENROL_TOKEN',
    hint: 'Set DUMONT_ENROL_TOKEN to the one-time token from: dumont machines add --workspace NAME',
  });
}
