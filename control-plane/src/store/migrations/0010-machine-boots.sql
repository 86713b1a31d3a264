-- How each machine that was ordered came up; what became of it is in instances and ledger. Durations in ms.
create table machine_boots (
  instance_id text primary key references instances (id),
  provider text not null,
  machine_id text not null,
  asked_at bigint not null,
  -- Order → the provider says running → SSH lets us in → the agent's hello. The last two only where we installed.
  running_ms double precision,
  ssh_ms double precision,
  install_ms double precision,
  -- SHA-256 of the host key that its SSH server showed first.
  ssh_host_key text,
  -- Why it did not come up.
  failed_at bigint,
  failure text
);
create index machine_boots_by_host on machine_boots (provider, machine_id, asked_at);

-- Hosts whose past was struck out: what is older counts no more.
create table machine_pardons (
  provider text not null,
  machine_id text not null,
  at bigint not null,
  primary key (provider, machine_id)
);
