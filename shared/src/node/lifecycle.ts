import { type DumontError, toDumontError } from '../util/errors.ts';

/**
 * Runs a process's main until it returns or a signal asks it to stop: the first SIGINT or SIGTERM aborts `signal`, so
 * that everything disposes in order. Errors become one clear line (plus the hint) on stderr and the exit code of
 * `exitCodeOf`. A second signal ends the process the hard way.
 */
export async function runMain(
  main: (signal: AbortSignal) => Promise<number | void>,
  exitCodeOf: (failure: DumontError) => number = usualExitCode,
): Promise<void> {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (stop.signal.aborted) {
      process.removeAllListeners(name);
      process.kill(process.pid, name);
      return;
    }
    stop.abort(new DOMException(`stopped by ${name}`, 'AbortError'));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    process.exitCode = (await main(stop.signal)) ?? 0;
  } catch (error) {
    const failure = toDumontError(error);
    const hint = failure.hint === undefined ? '' : `\n${failure.hint}`;
    process.stderr.write(`error: ${failure.message}${hint}\n`);
    if (process.env['DUMONT_LOG_LEVEL'] === 'debug' && failure.stack !== undefined)
      process.stderr.write(`${failure.stack}\n`);
    process.exitCode = exitCodeOf(failure);
  } finally {
    process.removeListener('SIGINT', onSignal);
    process.removeListener('SIGTERM', onSignal);
  }
}

/** 2 for USAGE, 1 for everything else. */
export function usualExitCode(failure: DumontError): number {
  return failure.code === 'USAGE' ? 2 : 1;
}
