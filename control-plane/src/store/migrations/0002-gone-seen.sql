-- When the provider last denied that the machine exists: two denials prove something only when time lies between them.
alter table ledger add column gone_seen_at bigint;
