-- An agent proves who it is with a credential it drew itself; the hash is kept. A machine that has not joined has none.
-- Machines that were there before keep the secret they were rented with.
alter table instances rename column token_hash to credential_hash;
alter table instances alter column credential_hash drop not null;
-- Proposed by the agent and not confirmed: it admits the agent as well.
alter table instances add column next_credential_hash text;
-- The one before: it admits nobody, and who comes with it is reported.
alter table instances add column former_credential_hash text;
-- When the last such report was written.
alter table instances add column former_refused_at bigint;

-- One-time tokens, by the hex SHA-256 of each.
create table enrolment_tokens (
  hash text primary key,
  instance_id text not null references instances (id),
  created_at bigint not null,
  expires_at bigint not null,
  used_at bigint,
  -- Hash of the credential it was used with: the same pair again is the same agent, whose answer was lost.
  credential_hash text,
  revoked_at bigint,
  -- When its last misuse was reported.
  refused_at bigint
);
create index enrolment_tokens_by_instance on enrolment_tokens (instance_id);
