import { EVENT_TYPES } from '@dumont/control-plane/store/event-types.ts';
import { ERROR_CODES } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { envExample } from '../../install/env-example.ts';
import { sourcesIn, textOf } from './sources.ts';

const product = await sourcesIn('shared/src', 'agent/src', 'control-plane/src', 'control-plane/cli', 'install');
const everything = [...product, ...(await sourcesIn('tests'))];

/** Longest file: more hides a second idea. */
const MAX_LINES = 400;

test('the sources are found at all', () => {
  expect(product.length).toBeGreaterThan(100);
  expect(product.flatMap(({ imports }) => imports).length).toBeGreaterThan(500);
});

test('every import of ours leads to a file of ours', () => {
  const known = new Set(everything.map(({ path }) => path));
  const missing = everything.flatMap(({ path, imports }) =>
    imports.filter(({ target }) => !known.has(target)).map(({ target }) => `${path} → ${target}`),
  );
  expect(missing).toEqual([]);
});

test('no file is longer than 400 lines', () => {
  expect(everything.filter(({ lineCount }) => lineCount > MAX_LINES).map(({ path }) => path)).toEqual([]);
});

test('exports have names, except where a tool wants a default', () => {
  const found = everything.filter(({ path, text }) => /^export default /m.test(text) && !path.endsWith('.config.ts'));
  expect(found.map(({ path }) => path)).toEqual([]);
});

test('nothing is left to do later in a comment, and no check is switched off', () => {
  const marks = /(?:\/\/|\*).*\b(?:TODO|FIXME|XXX)\b/;
  const switches = /@ts-ignore|@ts-expect-error|@ts-nocheck|(?:oxlint|eslint)-disable/;
  const others = everything.filter(({ path }) => path !== 'tests/tidy/tidy.test.ts');
  const found = others.filter(({ text }) => marks.test(text) || switches.test(text));
  expect(found.map(({ path }) => path)).toEqual([]);
});

test('no test is skipped or alone', () => {
  const found = everything.filter(
    ({ path, text }) => path.endsWith('.test.ts') && /^\s*(?:test|describe|it)\.(?:only|skip)\(/m.test(text),
  );
  expect(found.map(({ path }) => path)).toEqual([]);
});

/** Who may import whom: every file below `from` imports only files below `may`. The first rule that fits a file counts. */
const DIRECTIONS = [
  { from: 'shared/src/', may: ['shared/src/'] },
  { from: 'agent/src/', may: ['shared/src/', 'agent/src/'] },
  {
    from: 'control-plane/cli/',
    may: [
      'control-plane/cli/',
      'control-plane/src/node/',
      ...['api', 'model', 'util', 'node'].map((name) => `shared/src/${name}/`),
    ],
  },
  { from: 'control-plane/src/demo/', may: ['shared/src/', 'control-plane/src/', 'control-plane/cli/output/'] },
  { from: 'control-plane/src/', may: ['shared/src/', 'control-plane/src/'] },
  { from: 'install/', may: ['install/', 'shared/src/', 'agent/src/', 'control-plane/src/'] },
];

/** Inside the control plane: folders that know nothing of those above them. */
const IGNORANT_OF: Readonly<Record<string, readonly string[]>> = {
  store: ['hub', 'detect', 'operations', 'provisioning', 'providers', 'workspaces', 'http', 'live', 'demo', 'node'],
  providers: ['store', 'hub', 'detect', 'operations', 'provisioning', 'workspaces', 'http', 'live', 'demo'],
  hub: ['store', 'operations', 'provisioning', 'providers', 'workspaces', 'live', 'demo'],
  detect: ['hub', 'operations', 'provisioning', 'workspaces', 'http', 'live', 'demo'],
  provisioning: ['hub', 'detect', 'operations', 'http', 'live', 'demo'],
  workspaces: ['detect', 'operations', 'provisioning', 'providers', 'http', 'live', 'demo'],
  operations: ['http', 'live', 'demo'],
  gateway: ['hub', 'detect', 'operations', 'provisioning', 'workspaces', 'http', 'live', 'demo'],
  http: ['gateway', 'operations', 'provisioning', 'providers', 'detect', 'hub', 'demo'],
  live: ['gateway', 'operations', 'provisioning', 'providers', 'detect', 'hub', 'demo'],
};

test('packages import only what is below them', () => {
  const wrong = product.flatMap(({ path, imports }) => {
    const rule = DIRECTIONS.find(({ from }) => path.startsWith(from));
    if (rule === undefined) return [`${path} has no rule`];
    return imports
      .filter(({ target }) => !rule.may.some((folder) => target.startsWith(folder)))
      .map(({ target }) => `${path} → ${target}`);
  });
  expect(wrong).toEqual([]);
});

test('inside the control plane the folders below know nothing of those above', () => {
  const wrong = product.flatMap(({ path, imports }) => {
    const folder = /^control-plane\/src\/([^/]+)\//.exec(path)?.[1] ?? '';
    const forbidden = (IGNORANT_OF[folder] ?? []).map((name) => `control-plane/src/${name}/`);
    return imports
      .filter(({ target }) => forbidden.some((prefix) => target.startsWith(prefix)))
      .map(({ target }) => `${path} → ${target}`);
  });
  expect(wrong).toEqual([]);
});

test('no file waits for itself by a detour; types may look back', () => {
  const graph = new Map(
    product.map(({ path, imports }) => [path, imports.filter(({ isTypeOnly }) => !isTypeOnly)] as const),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
    if (done.has(path) || trail.includes(path)) return;
    for (const { target } of graph.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of product) visit(path, []);
  expect(cycles).toEqual([]);
});

test('env.example is what the schemas say: npm run docs:env', async () => {
  expect(await textOf('install/env.example')).toBe(envExample());
});

test('every error code is explained in the API page', async () => {
  const page = await textOf('control-plane/docs/API.md');
  expect(ERROR_CODES.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
});

test('the page of events lists each type once, and no other', async () => {
  const page = await textOf('control-plane/docs/EVENTS.md');
  const listed = [...page.matchAll(/^\| `([a-z.-]+)` \|/gm)].map(([, type]) => type);
  expect(listed).toHaveLength(EVENT_TYPES.length);
  expect(new Set(listed)).toEqual(new Set(EVENT_TYPES));
});

test('every type of event that is declared is written somewhere', () => {
  const code = product
    .filter(
      ({ path }) =>
        path.startsWith('control-plane/src/') && !path.endsWith('event-types.ts') && !path.includes('/demo/'),
    )
    .map(({ text }) => text)
    .join('\n');
  expect(EVENT_TYPES.filter((type) => !code.includes(`'${type}'`))).toEqual([]);
});
