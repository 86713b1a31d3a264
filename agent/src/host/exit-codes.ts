/**
 * What the end of `dumont-agent run` tells whoever keeps it running. Any other code, and a signal, is a failure: start
 * it again with backoff.
 */
export const EXIT_CODES = {
  /** It ended on purpose: stopped by SIGTERM, or its machine was given back. Leave it. */
  done: 0,
  usage: 2,
  /** It wants to be started again at once: another version is installed, or SIGHUP asked for it. The workload runs on. */
  restart: 75,
  /** The control plane refuses its credential: trying again soon cannot help. */
  refused: 77,
} as const;
