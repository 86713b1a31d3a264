/**
 * History, newest last; the control plane is deployed first and speaks every version from MIN_SUPPORTED on.
 * - 1 (2026-11): hello/welcome, heartbeats, commands, snapshot commit.
 * - 2 (2026-11): agents enrol; hello carries a credential of the agent's own, which it replaces now and then.
 */
export const PROTOCOL_VERSION = 2;
export const MIN_SUPPORTED_PROTOCOL_VERSION = 2;

/** Path of the agent socket on the control plane. */
export const AGENT_SOCKET_PATH = '/agent/v1';

/** Largest message either side accepts, bytes. Manifests and packs never travel here, so a megabyte is generous. */
export const MAX_MESSAGE_BYTES = 1_048_576;

/** Close codes of the agent socket (4000–4999 is the application range of RFC 6455). */
export const CLOSE_CODES = {
  /** The other side is shutting down in good order: reconnect soon. */
  goingAway: 1001,
  /** The agent restarts on purpose and is back in a moment; its workload runs on. */
  restarting: 4001,
  /** The message broke the protocol; the reason names the field. */
  protocol: 4400,
  /** Unknown instance or wrong credential; retrying will not help. */
  unauthorized: 4401,
  /** No hello in time. */
  helloTimeout: 4408,
  /** A newer session of the same instance took over. */
  superseded: 4409,
  /** The instance was destroyed on purpose. */
  released: 4410,
  /** A message above MAX_MESSAGE_BYTES. */
  tooLarge: 4413,
} as const;
