#!/usr/bin/env node
import { arch } from 'node:process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { AGENT_ARCHITECTURES, type AgentArchitecture } from '../../shared/src/model/agent-release.ts';
import { runMain } from '../../shared/src/node/lifecycle.ts';
import { DumontError, toDumontError } from '../../shared/src/util/errors.ts';
import { buildAgent } from './build-agent.ts';
import { REPOSITORY } from './packages.ts';

const HELP = `npm run build:agent -- [flags]

Builds dumont-agent as one executable, and beside it release.json and SHA256SUMS, into <out>/<version>/.

  --arch x64|arm64|all    machines to build for [this one's]
  --version-suffix <x>    stamps <version>-<x>, for tests and builds between releases
  --out <folder>          [dist/agent]
  --help
`;

void runMain((signal) => main(process.argv.slice(2), signal));

async function main(argv: string[], signal: AbortSignal): Promise<void> {
  const options = parseOptions(argv);
  if (options.help === true) {
    process.stdout.write(HELP);
    return;
  }
  const { version, folder } = await buildAgent({
    architectures: architecturesOf(options.arch ?? arch),
    versionSuffix: options['version-suffix'],
    out: options.out ?? join(REPOSITORY, 'dist/agent'),
    say: (line) => process.stdout.write(`${line}\n`),
    signal,
  });
  process.stdout.write(`dumont-agent ${version} is in ${folder}\n`);
}

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        arch: { type: 'string' },
        'version-suffix': { type: 'string' },
        out: { type: 'string' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new DumontError('USAGE', toDumontError(error).message, { hint: 'See --help.' });
  }
}

function architecturesOf(text: string): readonly AgentArchitecture[] {
  if (text === 'all') return AGENT_ARCHITECTURES;
  const found = AGENT_ARCHITECTURES.filter((each) => each === text);
  if (found.length > 0) return found;
  throw new DumontError('USAGE', `--arch ${text}: the agent is built for ${AGENT_ARCHITECTURES.join(' and ')}`, {
    field: 'arch',
  });
}
