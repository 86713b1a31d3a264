/** Bounds of the gateway, and how long it waits for what. Milliseconds unless the name says otherwise. */
export interface GatewayLimits {
  /** Connections and requests at once: a browser opens a few, a notebook a few dozen; beyond this something loops. */
  readonly maxPerWorkspace: number;
  /** Of all workspaces together; each costs two file descriptors, of which a process has 65,536 by our service unit. */
  readonly maxTotal: number;
  /** How long a TCP connection waits for a machine: longer than a failover with a standby, shorter than SSH's patience. */
  readonly holdMs: number;
  /** A machine that does not accept within this is tried again. */
  readonly connectTimeoutMs: number;
  /** SSH servers speak first; after this long without a word the caller is let through to one that does not. */
  readonly greetingMs: number;
  /** A connection that was ended may take this long to take its last bytes: half a second after the commit all is over. */
  readonly lingerMs: number;
  /** A connection that one side has ended and the other forgotten is dropped after this long without a byte. */
  readonly halfOpenIdleMs: number;
  /** Longest wait for a new primary's first answer, for the record. */
  readonly firstAnswerMs: number;
}

export const GATEWAY_LIMITS: GatewayLimits = {
  maxPerWorkspace: 512,
  maxTotal: 16_384,
  holdMs: 10_000,
  connectTimeoutMs: 3_000,
  greetingMs: 1_000,
  lingerMs: 400,
  halfOpenIdleMs: 300_000,
  firstAnswerMs: 120_000,
};

/** Idle connections are kept for ever, so dead peers must be found by the kernel: first probe after this long. */
export const KEEP_ALIVE_MS = 30_000;
