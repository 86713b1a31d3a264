import { CORPUS_KINDS, type CorpusKind } from './corpora.ts';
import type { DecodeSpeed } from './in-process.ts';
import { medianOf, type Action, type Corpus, type Sample } from './rounds.ts';
import type { ContenderName } from './contenders.ts';

/** Everything one run of the bench found; what was left out is missing. */
export interface Results {
  readonly samples: readonly Sample[];
  readonly decode?: DecodeSpeed | undefined;
  readonly incrementalMs?: number | undefined;
}

/** One acceptance figure: what was measured against its bound. */
export interface Verdict {
  readonly what: string;
  readonly value: number;
  readonly bound: number;
  readonly mustBe: 'at least' | 'at most';
  readonly passed: boolean;
}

const MAX_RSS_MB = 400;
const MAX_INCREMENTAL_MS = 150;

/** All acceptance figures for which there is a measurement. Pure. */
export function judge(results: Results): readonly Verdict[] {
  const view = new View(results.samples);
  const verdicts = [
    atLeast(
      'snapshot throughput, times restic',
      view.total('restic', 'wallMs', 'snapshot') / view.ours('wallMs', 'snapshot'),
      5,
    ),
    atLeast(
      'snapshot CPU, restic times ours',
      view.total('restic', 'cpuMs', 'snapshot') / view.ours('cpuMs', 'snapshot'),
      5,
    ),
    atLeast(
      'restore throughput, times restic',
      view.total('restic', 'wallMs', 'restore') / view.ours('wallMs', 'restore'),
      3,
    ),
    atMost(
      'stored bytes, times restic',
      view.ours('storedBytes', 'snapshot') / view.total('restic', 'storedBytes', 'snapshot'),
      1.05,
    ),
    atMost(
      'stored bytes with --effort small, times restic',
      view.total('dumont-small', 'storedBytes', 'snapshot') / view.total('restic', 'storedBytes', 'snapshot'),
      0.95,
    ),
    atLeast('compression of bf16 weights', view.compression('bf16'), 1.35),
    atMost(
      'unchanged tree of 30,000 files, times restic',
      view.one('dumont', 'source', 'unchanged').wallMs / view.one('restic', 'source', 'unchanged').wallMs,
      0.5,
    ),
    atLeast(
      'restore of 30,000 files, share of the speed of cp -r',
      view.one('cp', 'source', 'restore').wallMs / view.one('dumont', 'source', 'restore').wallMs,
      0.4,
    ),
    atMost(
      'new bytes after 200 insertions, times restic',
      view.one('dumont', 'after', 'snapshot').storedBytes / view.one('restic', 'after', 'snapshot').storedBytes,
      1.3,
    ),
    atMost('peak memory, MB', view.peakRssMb, MAX_RSS_MB),
    atLeast(
      'LZ4 decoding, share of the speed of lz4 -b',
      (results.decode?.oursMbps ?? NaN) / (results.decode?.commandMbps ?? NaN),
      0.8,
    ),
    atMost('snapshot after 1 of 100,000 files changed, ms', results.incrementalMs ?? NaN, MAX_INCREMENTAL_MS),
  ];
  return verdicts.filter(({ value }) => Number.isFinite(value));
}

function atLeast(what: string, value: number, bound: number): Verdict {
  return { what, value, bound, mustBe: 'at least', passed: value >= bound };
}

function atMost(what: string, value: number, bound: number): Verdict {
  return { what, value, bound, mustBe: 'at most', passed: value <= bound };
}

const NOT_RUN = { wallMs: NaN, cpuMs: NaN, storedBytes: NaN, rawBytes: NaN };

class View {
  readonly #samples: readonly Sample[];

  constructor(samples: readonly Sample[]) {
    this.#samples = samples;
  }

  one(contender: ContenderName, corpus: Corpus, action: Action) {
    return medianOf(this.#samples, { contender, corpus, action }) ?? NOT_RUN;
  }

  /** Over the corpora that were run at all. */
  total(contender: ContenderName, field: 'wallMs' | 'cpuMs' | 'storedBytes', action: Action): number {
    const kinds = CORPUS_KINDS.filter((kind) => this.#samples.some(({ corpus }) => corpus === kind));
    return kinds.reduce((sum, kind) => sum + this.one(contender, kind, action)[field], 0);
  }

  ours(field: 'wallMs' | 'cpuMs' | 'storedBytes', action: Action): number {
    return this.total('dumont', field, action);
  }

  compression(kind: CorpusKind): number {
    const { rawBytes, storedBytes } = this.one('dumont', kind, 'snapshot');
    return rawBytes / storedBytes;
  }

  get peakRssMb(): number {
    const peaks = this.#samples
      .filter(({ contender }) => contender.startsWith('dumont'))
      .map((one) => one.peakRssBytes);
    return Math.max(...peaks) / 1_000_000;
  }
}
