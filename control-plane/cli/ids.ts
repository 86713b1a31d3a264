import type { TestKind } from '@dumont/shared/api/test-report.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { Cli } from './cli.ts';

/** Rows looked through for an abbreviated id: ten thousand newest; older ones need their full id. */
const PAGE_SIZE = 500;
const MAX_PAGES = 20;

interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

/** All pages of a list, up to `limit` items. */
export async function collect<Item>(
  limit: number,
  readPage: (page: { readonly limit: number; readonly cursor: string | undefined }) => Promise<Page<Item>>,
): Promise<{ readonly items: readonly Item[]; readonly hasMore: boolean }> {
  const items: Item[] = [];
  let cursor: string | undefined;
  while (items.length < limit) {
    const page = await readPage({ limit: Math.min(PAGE_SIZE, limit - items.length), cursor });
    items.push(...page.items);
    if (page.next === null) return { items, hasMore: false };
    cursor = page.next;
  }
  return { items, hasMore: true };
}

/** @throws {DumontError} NOT_FOUND, USAGE when the beginning fits several */
export async function resolveInstanceId(cli: Cli, text: string): Promise<string> {
  if (ID_PATTERN.test(text)) return text;
  const { items } = await collect(PAGE_SIZE * MAX_PAGES, (page) =>
    cli.client.call('listInstances', { query: { ...page, all: 'true' } }),
  );
  const ids = items.map((item) => item.instanceId);
  return onlyMatch(text, ids, { noun: 'machine', prefix: 'in_', list: 'dumont machines list --all' });
}

/** @throws {DumontError} NOT_FOUND, USAGE when the beginning fits several */
export async function resolveOperationId(cli: Cli, text: string, kind?: 'failover'): Promise<string> {
  if (ID_PATTERN.test(text)) return text;
  const { items } = await collect(PAGE_SIZE * MAX_PAGES, (page) =>
    cli.client.call('listOperations', { query: { ...page, kind } }),
  );
  const ids = items.map((item) => item.operationId);
  const list = kind === undefined ? 'dumont operations list' : 'dumont failover list';
  return onlyMatch(text, ids, { noun: kind ?? 'operation', prefix: 'op_', list });
}

/**
 * The failover meant by an id, its beginning, or a workspace (its latest); the latest of all without a word.
 * @throws {DumontError} NOT_FOUND
 */
export async function resolveFailoverId(cli: Cli, idOrWorkspace: string | undefined): Promise<string> {
  if (idOrWorkspace === undefined || !idOrWorkspace.startsWith('op_')) {
    try {
      const query = { kind: 'failover', workspace: idOrWorkspace, limit: 1 } as const;
      const { items } = await cli.client.call('listOperations', { query });
      const [latest] = items;
      if (latest !== undefined) return latest.operationId;
      const of = idOrWorkspace === undefined ? '' : ` of workspace ${idOrWorkspace}`;
      throw new DumontError('NOT_FOUND', `there was no failover${of} yet`);
    } catch (error) {
      if (idOrWorkspace === undefined || !isDumontError(error, 'NOT_FOUND') || error.field !== 'workspace') throw error;
    }
  }
  return resolveOperationId(cli, idOrWorkspace, 'failover');
}

/**
 * The test meant by an id, its beginning, or a workspace (its latest); the latest of this kind without a word.
 * @throws {DumontError} NOT_FOUND, USAGE when the beginning fits several
 */
export async function resolveTestId(cli: Cli, which: string | undefined, kind?: TestKind): Promise<string> {
  if (which !== undefined && ID_PATTERN.test(which)) return which;
  const workspace = which?.startsWith('op_') === true ? undefined : which;
  if (which === undefined || workspace !== undefined) {
    try {
      const { items } = await cli.client.call('listTests', { query: { kind, workspace, limit: 1 } });
      const [latest] = items;
      if (latest !== undefined) return latest.testId;
      throw new DumontError('NOT_FOUND', `there was no test${workspace === undefined ? '' : ` of ${workspace}`} yet`);
    } catch (error) {
      if (which === undefined || !isDumontError(error, 'NOT_FOUND') || error.field !== 'workspace') throw error;
    }
  }
  const { items } = await collect(PAGE_SIZE, (page) =>
    cli.client.call('listTests', { query: { ...page, limit: Math.min(100, page.limit), kind } }),
  );
  const ids = items.map((item) => item.testId);
  return onlyMatch(which, ids, { noun: 'test', prefix: 'op_', list: 'dumont test list' });
}

/**
 * The branch meant by an id, its beginning, or a workspace (its newest that is not deleted).
 * @throws {DumontError} NOT_FOUND, USAGE when the beginning fits several
 */
export async function resolveBranchId(cli: Cli, idOrWorkspace: string): Promise<string> {
  if (ID_PATTERN.test(idOrWorkspace)) return idOrWorkspace;
  if (!idOrWorkspace.startsWith('br_')) {
    try {
      const { items } = await cli.client.call('listBranches', { query: { workspace: idOrWorkspace, limit: 1 } });
      const [newest] = items;
      if (newest !== undefined) return newest.branchId;
      throw new DumontError('NOT_FOUND', `workspace ${idOrWorkspace} has no branch`);
    } catch (error) {
      if (!isDumontError(error, 'NOT_FOUND') || error.field !== 'workspace') throw error;
    }
  }
  const { items } = await collect(PAGE_SIZE * MAX_PAGES, (page) =>
    cli.client.call('listBranches', { query: { ...page, all: 'true' } }),
  );
  const ids = items.map((item) => item.branchId);
  return onlyMatch(idOrWorkspace, ids, { noun: 'branch', prefix: 'br_', list: 'dumont branches list --all' });
}

function onlyMatch(
  text: string,
  ids: readonly string[],
  about: { readonly noun: string; readonly prefix: string; readonly list: string },
): string {
  const matches = ids.filter((id) => id.startsWith(text) || id.startsWith(about.prefix + text));
  const [first, second] = matches;
  if (first === undefined) {
    throw new DumontError('NOT_FOUND', `there is no ${about.noun} "${text}"`, { hint: `See "${about.list}".` });
  }
  if (second === undefined) return first;
  const some = matches.slice(0, 5).join(', ');
  throw new DumontError('USAGE', `"${text}" is the beginning of ${matches.length} ids: ${some}`, {
    hint: 'Write a few characters more.',
  });
}
