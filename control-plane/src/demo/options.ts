import { stat } from 'node:fs/promises';
import { constants, access } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { LossKind } from '@dumont/shared/api/endpoints.ts';
import { LOSS_KINDS } from '@dumont/shared/api/endpoints.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';

export interface DemoOptions {
  readonly scenario: 'spot-loss' | undefined;
  readonly loss: LossKind;
  readonly json: boolean;
  /** Folder copied as the workspace; undefined: the built-in sample. */
  readonly workspace: string | undefined;
  /** Undefined: a fixed folder for the interactive demo, a fresh one for a scenario. */
  readonly dataDirectory: string | undefined;
  /** 0: any free port. */
  readonly port: number | undefined;
  /** Keep a standby. */
  readonly standby: boolean;
  readonly help: boolean;
}

const SCENARIOS = ['spot-loss'] as const;

export const DEMO_HELP = `Usage: npm start [-- OPTIONS]

Starts Dumont on this computer without any credentials: a control plane, a market whose machines are real
processes, and a protected workspace on one of them. Stop it with Ctrl-C; it leaves nothing behind.

Options:
  --workspace DIR        protect a copy of DIR instead of the built-in sample
  --scenario spot-loss   lose the machine once, wait for the failover, verify every file, print the report, exit
  --loss HOW             how the scenario loses it: kill (default), freeze or partition
  --json                 with --scenario: print the report as one JSON object on stdout
  --standby              keep a second, cheap machine a fraction of a second behind the first
  --port N               port of the API (default 8766; a scenario takes any free one)
  --data-dir DIR         keep database, machines and snapshots in DIR
  --help                 this text

Exit codes: 0 all promises kept, 1 something failed or was lost, 2 wrong usage.
`;

/** @throws {DumontError} USAGE naming the flag and the fix; nothing has been started then */
export async function readDemoOptions(argv: readonly string[]): Promise<DemoOptions> {
  const values = parse(argv);
  const scenario = oneOf('--scenario', values.scenario, SCENARIOS);
  const loss = oneOf('--loss', values.loss, LOSS_KINDS);
  if (scenario === undefined) {
    const needsScenario = loss === undefined ? (values.json === true ? '--json' : undefined) : '--loss';
    if (needsScenario !== undefined) {
      throw usage(needsScenario, `${needsScenario} needs --scenario`, 'Add --scenario spot-loss.');
    }
  }
  return {
    scenario,
    loss: loss ?? 'kill',
    json: values.json ?? false,
    workspace: values.workspace === undefined ? undefined : await readableFolder(values.workspace),
    dataDirectory: values['data-dir'] === undefined ? undefined : resolve(values['data-dir']),
    port: portOf(values.port),
    standby: values.standby ?? false,
    help: values.help ?? false,
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: false,
      options: {
        scenario: { type: 'string' },
        loss: { type: 'string' },
        json: { type: 'boolean' },
        workspace: { type: 'string' },
        'data-dir': { type: 'string' },
        port: { type: 'string' },
        standby: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new DumontError('USAGE', toDumontError(error).message, { hint: 'See npm start -- --help.', cause: error });
  }
}

function oneOf<Value extends string>(
  flag: string,
  given: string | undefined,
  allowed: readonly Value[],
): Value | undefined {
  if (given === undefined) return undefined;
  const known = allowed.find((value) => value === given);
  if (known !== undefined) return known;
  throw usage(flag, `${flag} ${given} is not known`, `Use ${allowed.join(', ')}.`);
}

function portOf(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const port = Number(given);
  if (/^\d+$/.test(given) && port <= 65_535) return port;
  throw usage('--port', `--port ${given} is not a port`, 'Use a number from 0 to 65535.');
}

async function readableFolder(given: string): Promise<string> {
  const path = resolve(given);
  try {
    if (!(await stat(path)).isDirectory())
      throw usage('--workspace', `--workspace ${path} is not a folder`, 'Name a folder.');
    await access(path, constants.R_OK | constants.X_OK);
    return path;
  } catch (error) {
    if (error instanceof DumontError) throw error;
    throw usage(
      '--workspace',
      `--workspace ${path} cannot be read: ${toDumontError(error).message}`,
      'Name a folder you may read.',
    );
  }
}

function usage(field: string, message: string, hint: string): DumontError {
  return new DumontError('USAGE', message, { field, hint });
}
