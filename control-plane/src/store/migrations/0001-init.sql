-- Times are wall-clock milliseconds since the epoch; money is micro-dollars.

create table workspaces (
  id text primary key,
  name text not null unique,
  -- The fencing token: raised by every change of ownership, never lowered.
  epoch bigint not null default 0,
  -- Holder of the lease at this epoch; null while nobody is primary.
  primary_instance_id text,
  -- What users are pointed at; follows the primary at the `switching` step.
  endpoint_instance_id text,
  head_snapshot_id text,
  policy jsonb not null,
  created_at bigint not null,
  deleted_at bigint
);

create table instances (
  id text primary key,
  workspace_id text not null references workspaces (id),
  operation_id text,
  role text not null,
  state text not null,
  -- Epoch at which it was last primary; null when it never was.
  epoch bigint,
  token_hash text not null,
  provider text not null,
  offer jsonb not null,
  provider_ref text,
  requested_at bigint not null,
  ready_at bigint,
  lost_at bigint,
  gone_at bigint
);
create index instances_by_workspace on instances (workspace_id, requested_at);

-- Every machine asked for: written before the provider is called, closed only when it was confirmed gone twice.
create table ledger (
  instance_id text primary key references instances (id),
  provider text not null,
  label text not null unique,
  provider_ref text,
  price_micro_usd_per_hour bigint not null,
  requested_at bigint not null,
  rented_at bigint,
  release_asked_at bigint,
  gone_confirmations integer not null default 0,
  gone_at bigint,
  outcome text
);
create index ledger_open on ledger (requested_at) where gone_at is null;

create table snapshots (
  id text primary key,
  workspace_id text not null references workspaces (id),
  seq bigint not null,
  epoch bigint not null,
  parent_id text,
  instance_id text,
  record jsonb not null,
  storage text not null,
  committed_at bigint not null,
  unique (workspace_id, seq)
);

create table operations (
  id text primary key,
  kind text not null,
  workspace_id text references workspaces (id),
  state text not null,
  data jsonb not null,
  -- Which control-plane process works on it, until when.
  lease_owner text,
  lease_until bigint not null default 0,
  -- Not before this time (backoff between attempts).
  run_at bigint not null default 0,
  created_at bigint not null,
  updated_at bigint not null,
  finished_at bigint,
  error text
);
create index operations_unfinished on operations (run_at) where finished_at is null;
-- One workspace is moved by one operation at a time.
create unique index operations_one_mover on operations (workspace_id)
  where finished_at is null and kind in ('failover', 'provision', 'release');

-- Each step of an operation, timed: the failover report is a view of these rows.
create table operation_steps (
  operation_id text not null references operations (id),
  position integer not null,
  step text not null,
  started_at bigint not null,
  ended_at bigint,
  -- Monotonic duration where one process ran the whole step, else the wall difference.
  duration_ms double precision,
  outcome text,
  detail jsonb not null default '{}',
  primary key (operation_id, position)
);

create table events (
  id bigint generated always as identity primary key,
  at bigint not null,
  type text not null,
  workspace_id text,
  instance_id text,
  operation_id text,
  data jsonb not null
);

create table settings (
  key text primary key,
  value text not null
);
