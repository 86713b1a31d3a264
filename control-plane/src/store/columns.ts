import { assert } from '@dumont/shared/util/assert.ts';
import type { Row } from './database.ts';

/** Typed access to a row's columns; a column of another type is a programmer's error. */

export function text(row: Row, name: string): string {
  const value = row[name];
  assert(typeof value === 'string', `column ${name} is not text`);
  return value;
}

export function textOrNull(row: Row, name: string): string | null {
  return row[name] === null ? null : text(row, name);
}

export function integer(row: Row, name: string): number {
  const value = row[name];
  assert(typeof value === 'number', `column ${name} is not a number`);
  return value;
}

export function integerOrNull(row: Row, name: string): number | null {
  return row[name] === null ? null : integer(row, name);
}

/** A jsonb object. */
export function json(row: Row, name: string): Record<string, unknown> {
  const value = row[name];
  assert(typeof value === 'object' && value !== null && !Array.isArray(value), `column ${name} is not a JSON object`);
  return value as Record<string, unknown>;
}
