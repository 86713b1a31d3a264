#!/usr/bin/env node
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { LOG_LEVELS, createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import { connectionFilePath, removeConnectionFile, writeConnectionFile } from '../node/connection-file.ts';
import { Narrator } from './narrator.ts';
import type { DemoOptions } from './options.ts';
import { DEMO_HELP, readDemoOptions } from './options.ts';
import { renderSpotLoss } from './render-spot-loss.ts';
import { DEMO_WORKSPACE, DemoSession } from './session.ts';
import { TRAINING_FOLDER } from './stage.ts';
import { runSpotLoss } from './spot-loss.ts';

const DEFAULT_PORT = 8766;
/** `12 min 05 s` fits before a line of the story. */
const TIME_WIDTH = 11;
const NEXT_LINE = `\n${' '.repeat(TIME_WIDTH + 2)}`;

await runMain(async (signal) => {
  const options = await readDemoOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(DEMO_HELP);
    return 0;
  }
  return options.scenario === undefined ? runInteractive(options, signal) : runScenario(options, signal);
});

/** One failover, unattended. Everything it made is gone afterwards. */
async function runScenario(options: DemoOptions, signal: AbortSignal): Promise<number> {
  const dataDirectory = options.dataDirectory ?? (await mkdtemp(join(tmpdir(), 'dumont-scenario-')));
  const say = narratorTo(process.stderr, systemClock.monotonicMs());
  say('starting a control plane and a market of machines on this computer');
  await using stack = new AsyncDisposableStack();
  if (options.dataDirectory === undefined) {
    stack.defer(() => rm(dataDirectory, { recursive: true, force: true, maxRetries: 3 }));
  }
  const session = stack.use(
    await DemoSession.start({ dataDirectory, port: options.port ?? 0, log: demoLogger(), signal }),
  );
  const stories = new AbortController();
  const story = tellStory(session, say, { after: 0, signal: AbortSignal.any([signal, stories.signal]) });
  try {
    const staging = join(dataDirectory, 'staging');
    const report = await runSpotLoss({
      session,
      loss: options.loss,
      workspace: options.workspace,
      standby: options.standby,
      staging,
      say,
      signal,
    });
    // The report is the last thing to be read, also when a machine cannot be given back.
    stack.defer(() => {
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : renderSpotLoss(report, process.stdout));
    });
    return report.ok ? 0 : 1;
  } finally {
    say('giving every machine back');
    await session.destroyEverything();
    stories.abort();
    await story;
  }
}

/** Runs until Ctrl-C; an earlier run that was cut short is taken up where it was. */
async function runInteractive(options: DemoOptions, signal: AbortSignal): Promise<number> {
  const dataDirectory = options.dataDirectory ?? join(homedir(), '.dumont-demo');
  const say = narratorTo(process.stdout, systemClock.monotonicMs());
  say('starting a control plane and a market of machines on this computer');
  await using stack = new AsyncDisposableStack();
  const port = options.port ?? DEFAULT_PORT;
  const session = await DemoSession.start({ dataDirectory, port, log: demoLogger(), signal });
  if (options.dataDirectory === undefined) {
    stack.defer(() => rm(dataDirectory, { recursive: true, force: true, maxRetries: 3 }));
  }
  stack.use(session);
  const { url, apiToken } = session.controlPlane;
  const connection = { url, token: apiToken };
  const connectionFile = connectionFilePath(process.env);
  await writeConnectionFile(connectionFile, connection);
  stack.defer(() => removeConnectionFile(connectionFile, connection));
  const stories = new AbortController();
  const known = await session.existing();
  // What an earlier run lived through is history; only what follows is told.
  const story = tellStory(session, say, { after: known === undefined ? 0 : undefined, signal: stories.signal });
  try {
    say(`control plane at ${url}, data in ${dataDirectory}`);
    if (known === undefined) {
      const { operationId } = await session.provision(
        options.workspace,
        join(dataDirectory, 'staging'),
        options.standby,
      );
      await session.finished(operationId, signal);
    } else {
      const unused = options.workspace === undefined ? '' : '; --workspace is not used';
      say(`taking up the workspace ${known.name} of an earlier run${unused}`);
    }
    process.stdout.write(whatToTry(session, options));
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    return 0;
  } catch (error) {
    if (signal.aborted) return 0;
    throw error;
  } finally {
    say('stopping: giving every machine back');
    await session.destroyEverything();
    stories.abort();
    await story;
  }
}

/** Every line with the time since the start, so that pauses can be seen. */
function narratorTo(stream: NodeJS.WritableStream, startMs: number): (line: string) => void {
  return (line) => {
    const sinceMs = systemClock.monotonicMs() - startMs;
    stream.write(`${formatDuration(sinceMs).padStart(TIME_WIDTH)}  ${line.replaceAll('\n', NEXT_LINE)}\n`);
  };
}

/** Tells what happens until the signal; a stream that breaks off only ends the story. */
async function tellStory(
  session: DemoSession,
  say: (line: string) => void,
  { after, signal }: { readonly after: number | undefined; readonly signal: AbortSignal },
): Promise<void> {
  const narrator = new Narrator();
  try {
    for await (const event of session.client.events({ after, signal })) {
      const line = narrator.tell(event);
      if (line !== undefined) say(line);
    }
  } catch (error) {
    if (!signal.aborted) say(`the event stream ended: ${String(error)}`);
  }
}

/** Quiet unless asked: the story is told in words. */
function demoLogger() {
  const asked = LOG_LEVELS.find((level) => level === process.env['DUMONT_LOG_LEVEL']);
  return createLogger('demo', asked ?? 'error');
}

function whatToTry(session: DemoSession, options: DemoOptions): string {
  const leaves = options.dataDirectory === undefined ? ' and removes its data' : '';
  return `
The workspace "${DEMO_WORKSPACE}" is protected: a job trains in it, and every change is
snapshotted. Try, in another terminal, in this folder:

  npx dumont machines list                  what is rented, and what it costs
  npx dumont machines lose MACHINE --how kill
                                            take it away (or freeze, partition)
  npx dumont failover report                how the work came back
  npx dumont snapshots list ${DEMO_WORKSPACE}            what is safe
  npx dumont failover trigger ${DEMO_WORKSPACE} --wait   move without losing anything

The job writes ${TRAINING_FOLDER}/logs/train.log on the machine's disk, in a folder below
${session.dataDirectory}/machines
Ctrl-C ends the demo, destroys its machines${leaves}.

`;
}
