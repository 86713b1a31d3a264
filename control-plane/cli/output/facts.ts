import type { Cli } from '../cli.ts';
import { visibleLength } from './table.ts';

/** A labelled line of facts; parts that do not fit continue below, never torn in the middle. Empty: left out. */
export type Fact = readonly [label: string, parts: readonly string[]];

const LABEL_WIDTH = 11;
const SEPARATOR = ' · ';

/** Facts one below the other, labels dimmed, lines within the terminal's width. Pure. */
export function renderFacts(cli: Pick<Cli, 'colors' | 'width'>, facts: readonly Fact[]): string {
  const indent = ' '.repeat(LABEL_WIDTH);
  return facts
    .filter(([, parts]) => parts.length > 0)
    .map(([label, parts]) => {
      const lines = wrapParts(parts, cli.width - LABEL_WIDTH);
      return cli.colors.dim(label.padEnd(LABEL_WIDTH)) + lines.join(`\n${indent}`);
    })
    .join('\n');
}

function wrapParts(parts: readonly string[], width: number): readonly string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last !== undefined && visibleLength(last) + SEPARATOR.length + visibleLength(part) <= width) {
      lines[lines.length - 1] = last + SEPARATOR + part;
    } else {
      lines.push(...wrapWords(part, width));
    }
  }
  return lines;
}

function wrapWords(text: string, width: number): readonly string[] {
  if (visibleLength(text) <= width) return [text];
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && visibleLength(last) + 1 + visibleLength(word) <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}
