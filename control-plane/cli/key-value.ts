import type { Command } from 'commander';

/**
 * Rewrites `key=value` words to options where `key` is an option of some command: `--key=value`, and for a flag `--key`
 * or `--no-key` by true and false. The value of an option that takes one, and everything after `--`, stay as they are.
 * Pure.
 */
export function expandKeyValues(argv: readonly string[], program: Command): string[] {
  const takesValue = new Map(
    allOptions(program).map((option) => [option.long ?? '', option.required || option.optional]),
  );
  const end = argv.includes('--') ? argv.indexOf('--') : argv.length;
  return argv.flatMap((word, index) => {
    const [, key, value] = /^([a-z][a-z-]*)=(.*)$/s.exec(word) ?? [];
    const isOptionValue = takesValue.get(argv[index - 1] ?? '') === true;
    if (key === undefined || index >= end || isOptionValue) return [word];
    if (takesValue.get(`--${key}`) === true) return [`--${word}`];
    const isFlag = takesValue.has(`--${key}`) || takesValue.has(`--no-${key}`);
    if (!isFlag || (value !== 'true' && value !== 'false')) return [word];
    // Where only one of --key and --no-key exists, the other is how it is anyway.
    return [value === 'true' ? `--${key}` : `--no-${key}`].filter((option) => takesValue.has(option));
  });
}

function allOptions(command: Command): readonly Command['options'][number][] {
  return [...command.options, ...command.commands.flatMap((sub) => allOptions(sub))];
}
