-- Every table leads with the workspace, so that no query can be written without it and tables can be spread by it.
-- Times are microseconds UTC. Lists and objects are JSON text. '' stands for "no owner".

create table meta (
  name $text not null primary key,
  value $text not null
);

create table workspace (
  workspace bigint not null primary key,
  id $text not null unique,
  name $text not null,
  created_us bigint not null
);

create table api_key (
  workspace bigint not null,
  id $text not null,
  kind $text not null,
  public_part $text not null,
  digest $blob not null,
  label $text not null,
  status $text not null,
  permissions $text not null,
  ip_allow $text not null,
  origins $text not null,
  collections $text,
  expires_us bigint,
  created_by $text,
  created_us bigint not null,
  updated_us bigint not null,
  last_used_us bigint,
  primary key (workspace, id)
);
create unique index api_key_digest on api_key (digest);

create table conversation (
  workspace bigint not null,
  number bigint not null,
  id $text not null,
  owner_id $text not null,
  session_id $text,
  external_id $text,
  title $text,
  summary $text,
  status $text not null,
  is_public integer not null,
  collections $text not null,
  meta_data $text,
  settings $text,
  ended_us bigint,
  created_by $text,
  created_us bigint not null,
  updated_us bigint not null,
  message_count bigint not null,
  next_seq bigint not null,
  last_message_us bigint,
  primary key (workspace, number)
);
create index conversation_updated on conversation (workspace, updated_us, number);
create index conversation_owner on conversation (workspace, owner_id, updated_us, number);
create unique index conversation_external on conversation (workspace, owner_id, external_id)
  where external_id is not null;
create index conversation_session on conversation (workspace, owner_id, session_id) where session_id is not null;

create table participant (
  workspace bigint not null,
  conversation bigint not null,
  sender_id $text not null,
  role $text not null,
  first_seq bigint not null,
  primary key (workspace, conversation, sender_id, role)
);

create table message (
  workspace bigint not null,
  conversation bigint not null,
  seq bigint not null,
  number bigint not null,
  id $text not null,
  sender_id $text not null,
  role $text not null,
  message_type $text not null,
  content $text not null,
  created_us bigint not null,
  updated_us bigint not null,
  sent_us bigint,
  owner_id $text,
  external_id $text,
  checksum $text,
  parent_message_id $text,
  tags $text,
  extra $text,
  rating integer not null,
  incomplete integer not null,
  fingerprint $blob,
  primary key (workspace, conversation, seq)
);
create unique index message_number on message (workspace, number);
create unique index message_fingerprint on message (workspace, conversation, fingerprint)
  where fingerprint is not null;

create table turn_chain (
  workspace bigint not null,
  owner_id $text not null,
  chain $blob not null,
  conversation bigint not null,
  seq bigint not null,
  primary key (workspace, owner_id, chain)
);
create index turn_chain_conversation on turn_chain (workspace, conversation);

create table text_scope (
  workspace bigint not null,
  owner_id $text not null,
  generation bigint not null,
  next_block bigint not null,
  primary key (workspace, owner_id)
);

create table text_block (
  workspace bigint not null,
  owner_id $text not null,
  block bigint not null,
  messages bigint not null,
  data $blob not null,
  primary key (workspace, owner_id, block)
);

create table job (
  id $key,
  workspace bigint not null,
  owner_id $text not null,
  kind $text not null,
  conversation bigint,
  payload $text not null,
  state $text not null,
  attempts integer not null,
  run_at_us bigint not null,
  lease_until_us bigint,
  error $text,
  created_us bigint not null,
  updated_us bigint not null
);
create index job_due on job (state, run_at_us, id);
create index job_scope on job (workspace, owner_id, state);
create index job_conversation on job (workspace, conversation) where conversation is not null;

create table receipt (
  workspace bigint not null,
  id $text not null,
  user_id $text not null,
  conversation bigint,
  answer bigint,
  model $text not null,
  items $text not null,
  tokens integer not null,
  recall_ms double precision not null,
  skipped $text,
  created_us bigint not null,
  primary key (workspace, id)
);
create index receipt_conversation on receipt (workspace, conversation);

create table idempotency (
  workspace bigint not null,
  key $text not null,
  digest $blob not null,
  status integer not null,
  headers $text not null,
  body $blob not null,
  created_us bigint not null,
  primary key (workspace, key)
);
create index idempotency_created on idempotency (created_us);

-- Which conversations a kept answer tells of: what is erased there is erased here too.
create table idempotency_conversation (
  workspace bigint not null,
  conversation bigint not null,
  key $text not null,
  primary key (workspace, conversation, key)
);
