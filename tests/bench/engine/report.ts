import { medianOf, type Sample } from './rounds.ts';
import type { Results, Verdict } from './verdicts.ts';

const COLUMNS = ['', 'MB/s', 'CPU s', 'CPU/GB', 'RSS MB', 'stored MB', 'ratio', 'of restic', '× restic'];
const NAME_WIDTH = 34;
const WIDTH = 10;

/**
 * The results as lines for people: medians; the last columns are the stored bytes as a share of restic's, and the speed as a
 * multiple of restic's. Pure.
 */
export function describeResults({ samples, decode, incrementalMs }: Results, verdicts: readonly Verdict[]): string {
  const lines = [row(COLUMNS), ...medians(samples).map((sample) => row(cells(sample, samples)))];
  if (decode !== undefined) {
    lines.push(`LZ4 decoding: ${decode.oursMbps.toFixed(0)} MB/s, lz4 -b ${decode.commandMbps.toFixed(0)} MB/s`);
  }
  if (incrementalMs !== undefined) lines.push(`1 of 100,000 files changed: ${incrementalMs.toFixed(0)} ms`);
  lines.push('');
  for (const { passed, what, value, mustBe, bound } of verdicts) {
    lines.push(`${passed ? 'PASS' : 'FAIL'}  ${what}: ${value.toFixed(2)}, must be ${mustBe} ${bound}`);
  }
  return lines.join('\n');
}

/** One sample for each contender, corpus and action, in the order they were first run. Pure. */
export function medians(samples: readonly Sample[]): readonly Sample[] {
  const groups = Map.groupBy(samples, ({ corpus, action, contender }) => `${corpus} ${action} ${contender}`);
  return [...groups.values()]
    .flatMap(([first]) => (first === undefined ? [] : (medianOf(samples, first) ?? [])))
    .toSorted((a, b) => order(a).localeCompare(order(b)));
}

function order({ corpus, action }: Sample): string {
  return `${corpus} ${action === 'snapshot' ? 0 : action === 'unchanged' ? 1 : 2}`;
}

function cells(sample: Sample, samples: readonly Sample[]): readonly string[] {
  const { contender, corpus, action, rawBytes, wallMs, cpuMs, peakRssBytes, storedBytes } = sample;
  const restic = medianOf(samples, { contender: 'restic', corpus, action });
  const isStoring = action === 'snapshot';
  return [
    `${corpus} ${action} ${contender}`,
    (rawBytes / wallMs / 1_000).toFixed(0),
    (cpuMs / 1_000).toFixed(2),
    (cpuMs / 1_000 / (rawBytes / 1e9)).toFixed(2),
    (peakRssBytes / 1e6).toFixed(0),
    isStoring ? (storedBytes / 1e6).toFixed(1) : '',
    isStoring ? (rawBytes / storedBytes).toFixed(2) : '',
    isStoring && restic !== undefined ? (storedBytes / restic.storedBytes).toFixed(2) : '',
    restic === undefined ? '' : (restic.wallMs / wallMs).toFixed(2),
  ];
}

function row([name = '', ...rest]: readonly string[]): string {
  return name.padEnd(NAME_WIDTH) + rest.map((text) => text.padStart(WIDTH)).join('');
}
