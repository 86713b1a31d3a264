import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino';

/** Structured log: a constant message, an `event` name and ids as fields. Never secrets, never built strings. */
export type Logger = PinoLogger;

export const LOG_LEVELS = ['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * JSON lines on stderr (stdout belongs to results). Fields that could hold a secret are masked wherever they appear
 * one or two levels deep.
 * @param destination gets each line as it is logged, synchronously; stderr by default
 */
export function createLogger(name: string, level: LogLevel, destination = toStderr()): Logger {
  const secretFields = [
    'token',
    'enrolToken',
    'credential',
    'secretAccessKey',
    'sessionToken',
    'password',
    'authorization',
    'apiKey',
  ];
  const paths = secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  return pino({ name, level, redact: { paths, censor: '[redacted]' } }, destination);
}

function toStderr(): DestinationStream {
  return pino.destination({ dest: 2, sync: true });
}
