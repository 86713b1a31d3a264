import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { BranchView } from '@dumont/shared/api/views.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { BranchRow } from '../../store/branches.ts';
import { listBranches } from '../../store/branches.ts';
import { findWorkspace } from '../../store/workspaces.ts';
import { readPage } from '../cursor.ts';
import { requireBranch, requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { branchView } from '../views.ts';

export function branchHandlers(
  services: ApiServices,
): Pick<Handlers, 'listBranches' | 'getBranch' | 'mergeBranch' | 'deleteBranch'> {
  const { db, branches } = services;
  const viewOf = async (row: BranchRow): Promise<BranchView> =>
    branchView(row, must(await findWorkspace(db, row.workspaceId), 'a branch belongs to a workspace'));
  return {
    listBranches: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'branches',
        keyOf: (row: BranchRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) =>
          listBranches(db, {
            workspaceId: workspace?.id,
            includeDeleted: query.all === 'true',
            before: key,
            limit,
          }),
      });
      return { items: await Promise.all(items.map(viewOf)), next };
    },
    getBranch: async ({ params }) => {
      const row = await requireBranch(db, params.branchId);
      return { ...(await viewOf(row)), changes: row.summary.changes };
    },
    mergeBranch: async ({ params, body, signal }) => {
      const { id } = await requireBranch(db, params.branchId);
      const { branch, merge } = await branches.merge(id, { ...body, signal });
      return { branch: await viewOf(branch), merge };
    },
    deleteBranch: async ({ params }) => viewOf(await branches.delete(await requireBranch(db, params.branchId))),
  };
}
