#!/usr/bin/env node
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { runCli } from './run-cli.ts';

await runMain((interrupted) => {
  const readerGone = new AbortController();
  // `dumont events --follow | head`: the reader has enough, so have we.
  process.stdout.on('error', (error) => {
    if (systemErrorCode(error) !== 'EPIPE') throw error;
    readerGone.abort();
  });
  return runCli(process.argv.slice(2), {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
    clock: systemClock,
    signal: AbortSignal.any([interrupted, readerGone.signal]),
  });
});
