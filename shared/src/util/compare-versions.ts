/**
 * Orders versions such as `1.2.3` and `1.2.3-rc.1`: by number, field by field; a suffix `-…` comes before the version
 * without one, suffixes by their dot-separated fields (numbers by value, before words). What follows `+` is ignored.
 * Pure. Source: semver.org 2.0.0 §11.
 * @returns negative when a is older, 0 when neither is, positive when a is newer
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [split(a), split(b)];
  return compareFields(left.core, right.core) || compareSuffixes(left.suffix, right.suffix);
}

function split(version: string): { readonly core: readonly string[]; readonly suffix: readonly string[] } {
  const [precedence = ''] = version.split('+', 1);
  const dash = precedence.indexOf('-');
  if (dash === -1) return { core: precedence.split('.'), suffix: [] };
  return { core: precedence.slice(0, dash).split('.'), suffix: precedence.slice(dash + 1).split('.') };
}

function compareSuffixes(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  return compareFields(a, b);
}

function compareFields(a: readonly string[], b: readonly string[]): number {
  for (const [index, left] of a.entries()) {
    const right = b[index];
    if (right === undefined) return 1;
    const difference = compareField(left, right);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function compareField(a: string, b: string): number {
  const [isNumberA, isNumberB] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (isNumberA && isNumberB) return Number(a) - Number(b);
  if (isNumberA !== isNumberB) return isNumberA ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
