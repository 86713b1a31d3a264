import { spawnSync } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contender, ContenderName } from './contenders.ts';
import { corpusFolder, type CorpusKind, type CorpusSize, type SpecialCorpus } from './corpora.ts';
import { bytesBelow, median, runMeasured, type Measured } from './measure.ts';

export type Action = 'snapshot' | 'unchanged' | 'restore';
export type Corpus = CorpusKind | SpecialCorpus;

/** One run of one contender. */
export interface Sample extends Measured {
  readonly contender: ContenderName;
  readonly corpus: Corpus;
  readonly action: Action;
  /** Bytes of the corpus. */
  readonly rawBytes: number;
  /** What the store grew by. */
  readonly storedBytes: number;
}

export interface Place {
  readonly cache: string;
  readonly size: CorpusSize;
  /** Folder for stores and targets, on the disk to measure; emptied after every turn. */
  readonly work: string;
}

/** Takes the contenders through one corpus, in turns: what slows the machine for a while slows all of them. */
export async function measureCorpus(
  corpus: CorpusKind,
  contenders: readonly Contender[],
  place: Place & { readonly rounds: number; readonly actions: readonly Action[] },
): Promise<readonly Sample[]> {
  const folder = await corpusFolder(place.cache, place.size, corpus);
  const rawBytes = await bytesBelow(folder);
  const samples: Sample[] = [];
  for (let round = 0; round < place.rounds; round += 1) {
    for (const contender of contenders) {
      process.stderr.write(`${corpus}, round ${round + 1} of ${place.rounds}: ${contender.name}\n`);
      const turn = await Turn.begin(contender, place);
      const note = (action: Action, run: Stored) =>
        samples.push({ contender: contender.name, corpus, action, rawBytes, ...run });
      note('snapshot', await turn.snapshot(folder));
      if (place.actions.includes('unchanged') && contender.isIncremental)
        note('unchanged', await turn.snapshot(folder));
      if (place.actions.includes('restore')) note('restore', await turn.restore(round === 0 ? folder : null));
      await turn.end();
    }
  }
  return samples;
}

/** A snapshot of one folder after one of the other, once: what the edited file costs. */
export async function measureDedup(contenders: readonly Contender[], place: Place): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (const contender of contenders.filter(({ isIncremental }) => isIncremental)) {
    process.stderr.write(`dedup: ${contender.name}\n`);
    const turn = await Turn.begin(contender, place);
    for (const corpus of ['before', 'after'] as const) {
      const folder = await corpusFolder(place.cache, place.size, corpus);
      const run = await turn.snapshot(folder);
      samples.push({
        contender: contender.name,
        corpus,
        action: 'snapshot',
        rawBytes: await bytesBelow(folder),
        ...run,
      });
    }
    await turn.end();
  }
  return samples;
}

/** Our snapshot of a large sparse file, once; others would take minutes. */
export async function measureSparse(dumont: Contender, place: Place): Promise<readonly Sample[]> {
  const folder = await corpusFolder(place.cache, place.size, 'sparse');
  process.stderr.write('sparse: dumont\n');
  const turn = await Turn.begin(dumont, place);
  const run = await turn.snapshot(folder);
  await turn.end();
  return [{ contender: dumont.name, corpus: 'sparse', action: 'snapshot', rawBytes: await bytesBelow(folder), ...run }];
}

interface Stored extends Measured {
  readonly storedBytes: number;
}

/** One contender with a store and a target of its own. */
class Turn {
  readonly #contender: Contender;
  readonly #work: string;

  private constructor(contender: Contender, work: string) {
    this.#contender = contender;
    this.#work = work;
  }

  static async begin(contender: Contender, place: Place): Promise<Turn> {
    const work = join(place.work, 'turn');
    await rm(work, { recursive: true, force: true });
    await mkdir(work, { recursive: true });
    const turn = new Turn(contender, work);
    for (const command of contender.init(turn.#store)) await runMeasured(command, turn.#scratch);
    return turn;
  }

  get #store(): string {
    return join(this.#work, 'store');
  }

  get #scratch(): string {
    return join(this.#work, 'time');
  }

  async snapshot(folder: string): Promise<Stored> {
    const before = await bytesBelow(this.#store);
    // Or whoever comes first in a round reads from the disk what the others find in memory.
    spawnSync('find', [folder, '-type', 'f', '-exec', 'cat', '{}', '+'], { stdio: 'ignore' });
    const measured = await runMeasured(this.#contender.snapshot(folder, this.#store), this.#scratch);
    return { ...measured, storedBytes: (await bytesBelow(this.#store)) - before };
  }

  /** @param expected compared with what was restored; null to leave that out */
  async restore(expected: string | null): Promise<Stored> {
    const target = join(this.#work, 'target');
    const measured = await runMeasured(this.#contender.restore(this.#store, target), this.#scratch);
    if (expected !== null) {
      const { status, stdout } = spawnSync('diff', ['-rq', expected, target], { encoding: 'utf8' });
      if (status !== 0) throw new Error(`${this.#contender.name} restored something else:\n${stdout.slice(0, 2_000)}`);
    }
    return { ...measured, storedBytes: 0 };
  }

  async end(): Promise<void> {
    await rm(this.#work, { recursive: true });
  }
}

/** The medians over all rounds of one contender, corpus and action; undefined when it was not run. */
export function medianOf(
  samples: readonly Sample[],
  key: { readonly contender: ContenderName; readonly corpus: Corpus; readonly action: Action },
): Sample | undefined {
  const those = samples.filter(
    (one) => one.contender === key.contender && one.corpus === key.corpus && one.action === key.action,
  );
  const [first] = those;
  if (first === undefined) return undefined;
  const middle = (field: 'wallMs' | 'cpuMs' | 'storedBytes') => median(those.map((one) => one[field]));
  return {
    ...first,
    wallMs: middle('wallMs'),
    cpuMs: middle('cpuMs'),
    storedBytes: middle('storedBytes'),
    // Of a bound that must hold always, the worst counts.
    peakRssBytes: Math.max(...those.map((one) => one.peakRssBytes)),
  };
}
