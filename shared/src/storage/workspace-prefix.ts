import type { WorkspaceId } from '../model/ids.ts';

/** Where a managed workspace's objects lie below the store's own prefix; ends with a slash. */
export function workspacePrefix(workspaceId: WorkspaceId): string {
  return `workspaces/${workspaceId}/`;
}
