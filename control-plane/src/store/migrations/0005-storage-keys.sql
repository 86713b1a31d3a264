-- Keys that a storage provider made for an instance and that live on there until they expire or are deleted.
create table storage_keys (
  key_id text primary key,
  instance_id text not null references instances (id),
  expires_at bigint not null
);
