import { CHECK_STATUSES, type CheckResult, type CheckStatus } from './check.ts';

const COLOURS: Readonly<Record<CheckStatus, string>> = { fail: '31', warn: '33', skip: '2', ok: '32' };
const NUMBERS: Readonly<Record<CheckStatus, string>> = {
  fail: 'failed',
  warn: 'to look at',
  skip: 'skipped',
  ok: 'ok',
};

/** How many results have each status. Pure. */
export function countStatuses(results: readonly CheckResult[]): Readonly<Record<CheckStatus, number>> {
  const count = (status: CheckStatus) => results.filter((result) => result.status === status).length;
  return { fail: count('fail'), warn: count('warn'), skip: count('skip'), ok: count('ok') };
}

/** For people: what is worst comes last, above the counts, where a terminal leaves off. Pure. */
export function renderReport(results: readonly CheckResult[], isColoured: boolean): string {
  const width = Math.max(0, ...results.map(({ id }) => id.length));
  const rows = CHECK_STATUSES.toReversed().flatMap((status) => {
    return results
      .filter((result) => result.status === status)
      .flatMap(({ id, title, detail, fix }) => {
        const row = `${paint(status.padEnd(4), status, isColoured)}  ${id.padEnd(width)}  ${title}: ${printable(detail)}`;
        return fix === null ? [row] : [row, `${' '.repeat(width + 8)}→ ${printable(fix)}`];
      });
  });
  const counts = countStatuses(results);
  const told = CHECK_STATUSES.filter((status) => counts[status] > 0).map((status) => {
    return paint(`${counts[status]} ${NUMBERS[status]}`, status, isColoured);
  });
  return [...rows, '', told.join(', ')].join('\n');
}

/** Only what to do, the most urgent first. Pure. */
export function renderFixes(results: readonly CheckResult[]): string {
  const urgent = CHECK_STATUSES.flatMap((status) => results.filter((result) => result.status === status));
  const lines = urgent.flatMap(({ id, fix }) => (fix === null ? [] : [`${id}: ${printable(fix)}`]));
  return lines.length === 0 ? 'nothing to do' : lines.join('\n');
}

/** What files and servers say must not write on the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]+/gu, ' ');
}

function paint(text: string, status: CheckStatus, isColoured: boolean): string {
  return isColoured ? `\u001b[${COLOURS[status]}m${text}\u001b[0m` : text;
}
