import { z } from 'zod';
import { DumontError } from '../util/errors.ts';

/** One environment variable: its name is the key of the object, its meaning the schema's description. */
export type EnvSchema = z.ZodObject<Record<string, z.ZodType>>;

/**
 * Reads a process's environment by schema. Empty strings count as absent, so that `FOO= cmd` means "default".
 * @throws {DumontError} USAGE naming every variable at fault at once.
 */
export function readEnvironment<Schema extends EnvSchema>(
  schema: Schema,
  environment: Readonly<Record<string, string | undefined>>,
): z.infer<Schema> {
  const given = Object.fromEntries(
    Object.keys(schema.shape)
      .map((key) => [key, environment[key]] as const)
      .filter(([, value]) => value !== undefined && value !== ''),
  );
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const name = String(issue.path[0] ?? '(environment)');
    const description = schema.shape[name]?.description;
    const was = given[name] === undefined ? 'it is not set' : issue.message;
    return `  ${name}: ${was}${description === undefined ? '' : `  (${description})`}`;
  });
  throw new DumontError('USAGE', `bad environment:\n${[...new Set(lines)].join('\n')}`, {
    field: String(parsed.error.issues[0]?.path[0] ?? ''),
    hint: 'Set the variables named above; env.example lists all of them.',
  });
}

/** The table of a schema's variables for `--help` and env.example: name, default and meaning. */
export function describeEnvironment(
  schema: EnvSchema,
): readonly { readonly name: string; readonly defaultText: string; readonly description: string }[] {
  return Object.entries(schema.shape).map(([name, field]) => {
    const absent = field.safeParse(undefined);
    const value = absent.success ? absent.data : undefined;
    const defaultText = absent.success
      ? value === undefined
        ? ''
        : JSON.stringify(value).replaceAll('"', '')
      : '(required)';
    return { name, defaultText, description: field.description ?? '' };
  });
}

/** Whole milliseconds from text. */
export function envMs(defaultMs: number, minMs: number, maxMs: number) {
  return z.coerce.number().int().min(minMs).max(maxMs).default(defaultMs);
}

/** A TCP port from text; 0 lets the system choose. */
export function envPort(defaultPort: number) {
  return z.coerce.number().int().min(0).max(65_535).default(defaultPort);
}

/** true/false/1/0/yes/no from text. */
export function envFlag(defaultValue: boolean) {
  return z
    .enum(['true', 'false', '1', '0', 'yes', 'no'])
    .transform((text) => text === 'true' || text === '1' || text === 'yes')
    .default(defaultValue);
}
