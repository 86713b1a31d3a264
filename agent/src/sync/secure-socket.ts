import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import { MAX_SYNC_TEXT_BYTES, SYNC_SOCKET_PATH } from '@dumont/shared/protocol/sync.ts';
import { type ClientOptions, WebSocket } from 'ws';

/**
 * Both ends prove that they know the token, and nobody between reads or changes a byte, by TLS with a pre-shared key: no
 * certificates to issue, and a stranger does not get as far as our parser. The exchange is ephemeral, so that a token that
 * leaks later opens no recording.
 */
const TLS = {
  ciphers: 'ECDHE-PSK-CHACHA20-POLY1305',
  // Node offers pre-shared keys in this version only.
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
} as const;

/** TCP and TLS take three round trips. */
const HANDSHAKE_TIMEOUT_MS = 5_000;

/** What two ends have in common. */
export interface SyncKey {
  readonly workspaceId: string;
  readonly epoch: number;
  readonly token: string;
}

/** Opens a socket to a standby. */
export function dialStandby(url: string, key: SyncKey): WebSocket {
  const identity = identityOf(key);
  const options: ClientOptions & Pick<ConnectionOptions, 'pskCallback'> = {
    ...TLS,
    pskCallback: () => ({ psk: secretOf(key), identity }),
    // There is no certificate: the key proves who it is. Node takes what this gives for an error, nothing for none.
    checkServerIdentity: () => false,
    perMessageDeflate: false,
    maxPayload: MAX_SYNC_TEXT_BYTES,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    // Masks guard proxies that read along; within TLS they only cost time, and a mask of zeros costs none.
    generateMask: (mask: Buffer) => {
      mask.fill(0);
    },
  };
  return new WebSocket(url + SYNC_SOCKET_PATH, options);
}

/** A server that only a holder of the key can speak to. */
export function serverFor(key: SyncKey): Server {
  const identity = identityOf(key);
  const psk = secretOf(key);
  return createServer({
    ...TLS,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    pskCallback: (_socket, offered) => (offered === identity ? psk : null),
  });
}

function identityOf({ workspaceId, epoch }: SyncKey): string {
  return `${workspaceId}/${epoch}`;
}

/** Tokens are random and long, so one hash is enough to make a key of them. */
function secretOf({ token }: SyncKey): Buffer {
  return createHash('sha256').update(`dumont sync\0${token}`).digest();
}
