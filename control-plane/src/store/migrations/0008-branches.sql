-- One permission for each machine and epoch at which it was primary: to store, once, what it held when it was fenced.
create table harvests (
  instance_id text not null references instances (id),
  epoch bigint not null,
  workspace_id text not null references workspaces (id),
  operation_id text not null,
  -- The newest snapshot up to that epoch: what the machine had published, or was given.
  base_snapshot_id text,
  command_id text not null,
  opened_at bigint not null,
  -- Nothing is permitted from here on.
  closed_at bigint,
  outcome text,
  reason text,
  primary key (instance_id, epoch)
);

-- What a fenced machine held that no snapshot of its workspace does; never a head.
create table branches (
  id text primary key,
  workspace_id text not null references workspaces (id),
  instance_id text not null references instances (id),
  epoch bigint not null,
  operation_id text not null,
  base_snapshot_id text,
  snapshot_id text not null unique,
  record jsonb not null,
  summary jsonb not null,
  state text not null,
  created_at bigint not null,
  expires_at bigint not null,
  merged_at bigint,
  deleted_at bigint,
  -- Its manifest is no longer in the object store.
  removed_at bigint
);
create index branches_by_workspace on branches (workspace_id, created_at);
create index branches_by_operation on branches (operation_id);
create index branches_unremoved on branches (expires_at) where removed_at is null;
