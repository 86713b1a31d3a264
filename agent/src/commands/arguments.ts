import { parseArgs, type ParseArgsConfig } from 'node:util';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** One flag of a command; `value` names its argument in the help text, none for a switch. */
export interface FlagSpec {
  readonly value?: string;
  readonly required?: boolean;
  /** It may be given several times. */
  readonly multiple?: boolean;
  /** What the flag alone, without `=value`, means; a value must then be joined to it by `=`. */
  readonly bare?: string;
  readonly help: string;
}

/** One command as its help text shows it. */
export interface CommandSpec {
  readonly name: string;
  /** Names of the positional arguments, all required. */
  readonly positionals: readonly string[];
  readonly summary: string;
  readonly flags: Readonly<Record<string, FlagSpec>>;
}

export interface ParsedArguments {
  readonly positionals: readonly string[];
  /** A flag's text, undefined when absent. @throws {DumontError} USAGE when it is a required one */
  text(flag: string): string | undefined;
  /** Every text of a flag that may be given several times. */
  texts(flag: string): readonly string[];
  /** The text of a flag that the specification requires. */
  required(flag: string): string;
  isSet(flag: string): boolean;
}

/** Splits a command's arguments. @throws {DumontError} USAGE naming the flag or argument at fault */
export function parseArguments(spec: CommandSpec, argv: readonly string[]): ParsedArguments {
  const options: ParseArgsConfig['options'] = {};
  for (const [name, flag] of Object.entries(spec.flags)) {
    options[name] = { type: flag.value === undefined ? 'boolean' : 'string', multiple: flag.multiple === true };
  }
  const { values, positionals } = parseStrictly(
    spec,
    argv.map((word) => withValue(spec, word)),
    options,
  );
  const help = `See: dumont-agent ${spec.name} --help`;
  for (const [index, name] of spec.positionals.entries()) {
    if ((positionals[index] ?? '') === '') {
      throw new DumontError('USAGE', `${spec.name} needs <${name}>`, { field: name, hint: help });
    }
  }
  const surplus = positionals[spec.positionals.length];
  if (surplus !== undefined) {
    throw new DumontError('USAGE', `${spec.name} does not take the argument ${JSON.stringify(surplus)}`, {
      hint: help,
    });
  }
  const missing = Object.entries(spec.flags)
    .filter(([name, flag]) => flag.required === true && (values[name] ?? '') === '')
    .map(([name, flag]) => `--${name} <${flag.value ?? ''}>`);
  if (missing.length > 0) {
    throw new DumontError('USAGE', `${spec.name} needs ${missing.join(' and ')}`, { hint: help });
  }
  const text = (name: string) => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const texts = (name: string) => [values[name] ?? []].flat().filter((value) => typeof value === 'string');
  return { positionals, text, texts, required: (name) => text(name) ?? '', isSet: (name) => values[name] === true };
}

/** The help text of one command. */
export function helpText(spec: CommandSpec): string {
  const places = spec.positionals.map((name) => ` <${name}>`).join('');
  const rows = Object.entries(spec.flags).map(([name, flag]) => {
    const value = flag.bare === undefined ? ` <${flag.value}>` : `[=<${flag.value}>]`;
    const left = flag.value === undefined ? `--${name}` : `--${name}${value}`;
    return `  ${left.padEnd(24)} ${flag.help}${flag.required === true ? ' (required)' : ''}`;
  });
  return `dumont-agent ${spec.name}${places} [flags]\n\n${spec.summary}\n\n${rows.join('\n')}\n`;
}

/** `--flag` alone as `--flag=…` where the flag may stand alone. */
function withValue(spec: CommandSpec, word: string): string {
  const bare = word.startsWith('--') ? spec.flags[word.slice(2)]?.bare : undefined;
  return bare === undefined ? word : `${word}=${bare}`;
}

function parseStrictly(spec: CommandSpec, args: string[], options: NonNullable<ParseArgsConfig['options']>) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    const text = error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error);
    throw new DumontError('USAGE', `${spec.name}: ${text}`, {
      hint: `See: dumont-agent ${spec.name} --help`,
      cause: error,
    });
  }
}
