-- Where users reach a workspace, whichever machine serves it.
create table gateways (
  workspace_id text primary key references workspaces (id),
  -- The TCP port of its SSH address, kept for life; null while none is free.
  port integer unique,
  -- Signs the tokens of its HTTP address: a new secret revokes them all.
  secret text not null,
  -- The last primary that users were pointed at, and its epoch.
  target_instance_id text,
  target_epoch bigint not null default 0
);
-- The report of a failover looks for the gateway's answer among its workspace's events.
create index events_by_workspace on events (workspace_id, id);
