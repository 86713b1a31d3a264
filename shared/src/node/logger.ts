import { pino, stdSerializers, type DestinationStream, type Logger as PinoLogger } from 'pino';
import { censored, censorSecrets } from './censor-secrets.ts';

/** Structured log: a constant message, an `event` name and ids as fields. Never secrets, never built strings. */
export type Logger = PinoLogger;

export const LOG_LEVELS = ['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Of child loggers, whose fields pass by the formatter below. */
const BOUND_SECRETS = ['token', 'credential', 'secret', 'password', 'authorization', 'apiKey', 'secretAccessKey'];

/**
 * JSON lines on stderr (stdout belongs to results). The second line of defence: a field whose name is a secret's is
 * masked at any depth, also in what an error carries. The first is never to log one: a secret inside a text goes
 * unnoticed here.
 * @param destination gets each line as it is logged, synchronously; stderr by default
 */
export function createLogger(name: string, level: LogLevel, destination = toStderr()): Logger {
  const options = {
    name,
    level,
    formatters: { log: censorSecrets },
    serializers: { err: describeError },
    redact: { paths: BOUND_SECRETS.flatMap((field) => [field, `*.${field}`]), censor: censored },
  };
  return pino(options, destination);
}

/** Errors of libraries carry requests and answers as fields of their own. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  // The library's own form holds the error itself in a hidden field and has a prototype: only what would be printed.
  return censorSecrets({ ...stdSerializers.err(error) });
}

function toStderr(): DestinationStream {
  return pino.destination({ dest: 2, sync: true });
}
