/** Every bound of the agent hub. Tests and unusual installations override single ones. */
export interface HubLimits {
  /** From the upgrade to the end of the greeting, ms. */
  readonly greetingTimeoutMs: number;
  /** Connections that have not been greeted yet; more are turned away with 503. */
  readonly maxUngreeted: number;
  /** Connections in all. */
  readonly maxConnections: number;
  /** Bytes waiting in one agent's direction; an agent that reads slower than this is dropped. */
  readonly maxBufferedBytes: number;
  /** Commands of one instance that wait for their result. */
  readonly maxCommandsPerInstance: number;
  /** Snapshot commits of one session that wait for their verdict; an agent needs one. */
  readonly maxCommitsPerSession: number;
  /** Credential messages of one session that are being stored; an agent says one after the other. */
  readonly maxCredentialsPerSession: number;
  /** From our close frame to the end of a peer that does not answer it, ms. */
  readonly closeTimeoutMs: number;
}

export const HUB_LIMITS: HubLimits = {
  // Hello is the first thing an agent sends; 5 s is ten lossy round trips around the world.
  greetingTimeoutMs: 5_000,
  // A whole fleet comes back at once after a restart, spread by its backoff; each greeting takes milliseconds.
  maxUngreeted: 1_024,
  // File descriptors and about 30 KiB of memory each.
  maxConnections: 20_000,
  // Four messages of the largest size.
  maxBufferedBytes: 4 * 1_048_576,
  maxCommandsPerInstance: 64,
  maxCommitsPerSession: 4,
  maxCredentialsPerSession: 4,
  closeTimeoutMs: 2_000,
};
