import type { ApiClient } from '@dumont/shared/api/client.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Colors } from 'picocolors/types.js';

/** A terminal or a pipe. */
interface CliStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** The process around a command line. */
export interface CliIo {
  readonly stdout: CliStream;
  readonly stderr: CliStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Ctrl-C, or nobody reads our output any more. */
  readonly signal: AbortSignal;
}

/** What a command works with. */
export interface Cli {
  readonly client: ApiClient;
  /** One JSON value on stdout, nothing else. */
  readonly json: boolean;
  /** Stdout is a terminal that may be redrawn. */
  readonly isLive: boolean;
  readonly colors: Colors;
  /** Columns to fit into; without limit when stdout is no terminal. */
  readonly width: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly write: (text: string) => void;
  readonly print: (text: string) => void;
  readonly printJson: (value: unknown) => void;
  /** A remark for people on stderr; silent with --json. */
  readonly note: (text: string) => void;
}

/** Runs a command's work once the command line is understood; the work may answer an exit code other than 0. */
export interface CommandHost {
  run(work: (cli: Cli) => Promise<number | void>): Promise<void>;
}
