import { z } from 'zod';
import { mergeStrategySchema } from '../model/branch.ts';
import { MAX_MERGE_PATHS, mergeResultSchema } from '../protocol/branch.ts';
import type { Endpoint } from './endpoint.ts';
import { nothing, page, pageOf } from './paging.ts';
import { branchDetailViewSchema, branchViewSchema } from './views.ts';

export const mergeBranchBodySchema = z.strictObject({
  strategy: mergeStrategySchema
    .default('side-by-side')
    .describe('For what both the branch and the workspace changed since.'),
  paths: z
    .array(z.string().min(1).max(4_096))
    .min(1)
    .max(MAX_MERGE_PATHS)
    .optional()
    .describe('Files, or folders with all below them; everything by default.'),
});
export type MergeBranchBody = z.infer<typeof mergeBranchBodySchema>;

/** What can be done with branches; part of the whole contract. */
export const BRANCH_ENDPOINTS = {
  listBranches: {
    method: 'GET',
    path: '/branches',
    summary: 'What fenced machines held and had not published, newest first; deleted ones only with all=true.',
    auth: true,
    successStatus: 200,
    query: z.strictObject({
      ...page,
      workspace: z.string().optional(),
      all: z.enum(['true', 'false']).default('false'),
    }),
    body: nothing,
    response: pageOf(branchViewSchema),
  },
  getBranch: {
    method: 'GET',
    path: '/branches/:branchId',
    summary: 'One branch with the paths that differ from its base, newest first, at most 1,000 of them.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: branchDetailViewSchema,
  },
  mergeBranch: {
    method: 'POST',
    path: '/branches/:branchId/merge',
    summary: "Bring a branch's files into the workspace; answers when the primary has done it.",
    auth: true,
    successStatus: 200,
    query: nothing,
    body: mergeBranchBodySchema,
    response: z.object({ branch: branchViewSchema, merge: mergeResultSchema }),
  },
  deleteBranch: {
    method: 'DELETE',
    path: '/branches/:branchId',
    summary: 'Delete a branch for good.',
    auth: true,
    successStatus: 200,
    query: nothing,
    body: nothing,
    response: branchViewSchema,
  },
} as const satisfies Record<string, Endpoint>;
