/** Size of a number, known from a tensor's type. */
export type ElementBytes = 1 | 2 | 4 | 8;

/** Where the bytes of one tensor lie in a file. */
export interface TensorSpan {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
  readonly elementBytes?: ElementBytes | undefined;
}

/** More tensors than this in one file are not looked at: the largest models have some thousands. */
export const MAX_TENSORS = 100_000;

/**
 * Spans as a layout: ascending, no empty ones, cut off at the file's end, because a file that is still being written has
 * its header first. Null when two overlap or one begins or ends nowhere.
 */
export function orderSpans(spans: readonly TensorSpan[], sizeBytes: number): readonly TensorSpan[] | null {
  const ordered: TensorSpan[] = [];
  let end = 0;
  for (const span of spans.toSorted((a, b) => a.offset - b.offset || a.length - b.length)) {
    const { offset, length } = span;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(offset + length) || offset < end || length < 0)
      return null;
    end = offset + length;
    if (length === 0 || offset >= sizeBytes) continue;
    ordered.push(end <= sizeBytes ? span : { ...span, length: sizeBytes - offset });
  }
  return ordered;
}
