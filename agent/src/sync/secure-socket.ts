import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import { CHUNK_SOCKET_PATH } from '@dumont/shared/protocol/chunk-serving.ts';
import { MAX_SYNC_CHUNK_BYTES, MAX_SYNC_TEXT_BYTES, SYNC_SOCKET_PATH } from '@dumont/shared/protocol/sync.ts';
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

/** What a machine that restores has in common with one whose chunks it may read. */
export interface ReaderKey {
  readonly workspaceId: string;
  readonly token: string;
}

/** Opens a socket to a standby. */
export function dialStandby(url: string, key: SyncKey): WebSocket {
  const options = optionsFor({ identity: identityOf(key), psk: secretOf(key), maxPayload: MAX_SYNC_TEXT_BYTES });
  return new WebSocket(url + SYNC_SOCKET_PATH, options);
}

/** Opens a socket to whoever serves chunks. */
export function dialHolder(url: string, key: ReaderKey): WebSocket {
  const options = optionsFor({
    identity: readerIdentityOf(key),
    psk: readerSecretOf(key),
    maxPayload: MAX_SYNC_CHUNK_BYTES,
  });
  return new WebSocket(url + CHUNK_SOCKET_PATH, options);
}

/** What a connection may be used for, by the key that it was opened with. */
type PeerRole = 'sync' | 'reader';

/** A server that only holders of a key can speak to. */
export interface KeyedServer {
  readonly server: Server;
  /** Undefined for one that came in without a key exchange of its own: it may do nothing. */
  readonly roleOf: (socket: object) => PeerRole | undefined;
}

/** @param keys asked at every handshake; null lets nobody in for that */
export function serverFor(keys: {
  readonly sync: SyncKey | null;
  readonly reader: () => ReaderKey | null;
}): KeyedServer {
  const roles = new WeakMap<object, PeerRole>();
  const server = createServer({
    ...TLS,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    pskCallback: (socket, offered) => {
      const reader = keys.reader();
      const isSync = keys.sync !== null && offered === identityOf(keys.sync);
      const isReader = reader !== null && offered === readerIdentityOf(reader);
      if (!isSync && !isReader) return null;
      roles.set(socket, isSync ? 'sync' : 'reader');
      if (isSync) return keys.sync === null ? null : secretOf(keys.sync);
      return reader === null ? null : readerSecretOf(reader);
    },
  });
  return { server, roleOf: (socket) => roles.get(socket) };
}

function optionsFor({
  identity,
  psk,
  maxPayload,
}: {
  readonly identity: string;
  readonly psk: Buffer;
  readonly maxPayload: number;
}): ClientOptions {
  const options: ClientOptions & Pick<ConnectionOptions, 'pskCallback'> = {
    ...TLS,
    pskCallback: () => ({ psk, identity }),
    // There is no certificate: the key proves who it is. Node takes what this gives for an error, nothing for none.
    checkServerIdentity: () => false,
    perMessageDeflate: false,
    maxPayload,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    // Masks guard proxies that read along; within TLS they only cost time, and a mask of zeros costs none.
    generateMask: (mask: Buffer) => {
      mask.fill(0);
    },
  };
  return options;
}

function identityOf({ workspaceId, epoch }: SyncKey): string {
  return `${workspaceId}/${epoch}`;
}

/** Tokens are random and long, so one hash is enough to make a key of them. */
function secretOf({ token }: SyncKey): Buffer {
  return createHash('sha256').update(`dumont sync\0${token}`).digest();
}

function readerIdentityOf({ workspaceId }: ReaderKey): string {
  return `chunks/${workspaceId}`;
}

function readerSecretOf({ token }: ReaderKey): Buffer {
  return createHash('sha256').update(`dumont chunks\0${token}`).digest();
}
