import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { must } from '@dumont/shared/util/assert.ts';
import { presentContenders } from './contenders.ts';
import { CORPUS_KINDS } from './corpora.ts';
import { measureDecode, measureIncremental } from './in-process.ts';
import { GNU_TIME } from './measure.ts';
import { describeResults, medians } from './report.ts';
import { measureCorpus, measureDedup, measureSparse, type Sample } from './rounds.ts';
import { judge, type Results } from './verdicts.ts';

const SPECIALS = ['dedup', 'sparse', 'decode', 'incremental'] as const;
const HELP = `npm run bench:engine -- [flags]
  --size small|full   300 MB (default) or 3 GB of corpora
  --only a,b          of ${[...CORPUS_KINDS, ...SPECIALS].join(', ')}
  --rounds n          turns of every contender, 3 when absent; medians count
  --cache dir         where corpora are kept, and stores and targets while they are measured
  --json              one JSON object on stdout
`;

/** Measures the agent against restic, kopia, tar | lz4 and cp on the same disk, in turns, and judges the figures. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: 'small' },
      only: { type: 'string', default: [...CORPUS_KINDS, ...SPECIALS].join(',') },
      rounds: { type: 'string', default: '3' },
      cache: { type: 'string', default: join(tmpdir(), 'dumont-bench') },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (!existsSync(GNU_TIME)) throw new Error(`${GNU_TIME} is missing; on Debian: apt-get install time`);
  const size = values.size === 'full' ? 'full' : 'small';
  const results = await measureAll(new Set(values.only.split(',')), {
    cache: values.cache,
    size,
    rounds: Math.max(1, Number(values.rounds) || 1),
    work: join(values.cache, `work-${process.pid}`),
  });
  const verdicts = judge(results);
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    node: process.versions.node,
    size,
  };
  const text = values.json
    ? JSON.stringify({ machine, medians: medians(results.samples), ...results, verdicts })
    : `${JSON.stringify(machine)}\n${describeResults(results, verdicts)}`;
  process.stdout.write(`${text}\n`);
  return verdicts.every(({ passed }) => passed) ? 0 : 1;
}

async function measureAll(
  only: ReadonlySet<string>,
  place: Parameters<typeof measureCorpus>[2] extends infer Place ? Omit<Place, 'actions'> : never,
): Promise<Results> {
  const contenders = presentContenders();
  if (!contenders.some(({ name }) => name === 'dumont-small')) {
    process.stderr.write('left out: dumont-small, the agent has no --effort\n');
  }
  const samples: Sample[] = [];
  try {
    for (const kind of CORPUS_KINDS.filter((each) => only.has(each))) {
      const actions = (['snapshot', 'unchanged', 'restore'] as const).filter(
        (action) => action !== 'unchanged' || kind === 'source',
      );
      samples.push(...(await measureCorpus(kind, contenders, { ...place, actions })));
    }
    if (only.has('dedup')) samples.push(...(await measureDedup(contenders, place)));
    const dumont = must(contenders[0], 'we are always there');
    if (only.has('sparse')) samples.push(...(await measureSparse(dumont, place)));
    return {
      samples,
      decode: only.has('decode') ? await measureDecode(place.work) : undefined,
      incrementalMs: only.has('incremental') ? await measureIncremental(place.work) : undefined,
    };
  } finally {
    await rm(place.work, { recursive: true, force: true });
  }
}

process.exitCode = await main();
