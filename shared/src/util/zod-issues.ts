import type { z } from 'zod';

const MAX_LISTED = 5;

/** A schema failure in words: `policy.raceWidth: expected number, received string; …`, and the first field at fault. */
export function describeIssues(error: z.ZodError): { readonly summary: string; readonly field: string } {
  const lines = error.issues.map((issue) => {
    const path = issue.path.map(String).join('.') || '(message)';
    return { path, text: `${path}: ${issue.message}` };
  });
  const shown = lines.slice(0, MAX_LISTED).map((line) => line.text);
  const more = lines.length > MAX_LISTED ? `; and ${lines.length - MAX_LISTED} more` : '';
  return { summary: shown.join('; ') + more, field: lines[0]?.path ?? '(message)' };
}
