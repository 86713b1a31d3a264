-- The machine that keeps a copy of the workspace's folder; it never holds the lease.
alter table workspaces add column standby_instance_id text;
-- While nobody is primary: the epoch at which that machine may commit one snapshot of its copy. Null: it may not.
alter table workspaces add column standby_save_epoch bigint;
-- One operation at a time looks for a workspace's standby.
create unique index operations_one_standby on operations (workspace_id) where finished_at is null and kind = 'standby';
