-- How good the detector was, for each machine it watched; sums, so that hosts and providers are added up.
create table detection_figures (
  instance_id text primary key references instances (id),
  watched_ms double precision not null default 0,
  -- Suspicions, and those taken back with the time that they stood.
  suspects bigint not null default 0,
  mistakes bigint not null default 0,
  mistake_ms double precision not null default 0,
  -- Confirms taken back.
  averted bigint not null default 0,
  -- Machines given up, and those of them that spoke again.
  losses bigint not null default 0,
  returned bigint not null default 0,
  -- Silence at the confirm of each loss.
  detect_ms double precision not null default 0,
  detect_max_ms double precision not null default 0,
  updated_at bigint not null
);

-- How a provider's host behaves: its silences that were no deaths.
create table detection_hosts (
  provider text not null,
  machine_id text not null,
  history jsonb not null,
  updated_at bigint not null,
  primary key (provider, machine_id)
);
create index detection_hosts_by_age on detection_hosts (updated_at);
