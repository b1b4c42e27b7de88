-- The filters of eventstream and what its clients acknowledged, for PostgreSQL
-- 13 or newer. Apply it with `psql -f schema.sql` or let the services do it: as
-- often as you like, and from several places at once.

begin;

set local client_min_messages = warning;

-- "if not exists" alone fails when two sessions create the same table at once.
do $$ begin perform pg_advisory_xact_lock(hashtextextended('eventstream schema', 0)); end $$;

create table if not exists filters (
    id            uuid primary key,
    subscriber_id text not null,
    spec          jsonb not null check (spec ->> 'subscriber_id' = subscriber_id),
    revision      bigint not null check (revision > 0),
    deleted_at    timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    -- The transaction that changed the row last. It tells a reader which rows
    -- to look at again, so every update sets it.
    changed_in    xid8 not null default pg_current_xact_id()
);

-- What a filter takes up of its subscriber's quota, as it is counted in
-- filter_counts. All of them are null until the filter is counted: of those made
-- by versions that counted nothing, that is done once, by the API.
alter table filters
    add column if not exists n_values integer,
    add column if not exists n_tried  integer,
    add column if not exists n_broad  integer,
    add column if not exists n_bytes  integer;

create index if not exists filters_uncounted on filters (id) where n_bytes is null and deleted_at is null;

create index if not exists filters_subscriber on filters (subscriber_id, id) where deleted_at is null;
create index if not exists filters_changed on filters (changed_in);
create index if not exists filters_deleted on filters (deleted_at) where deleted_at is not null;

-- What the filters of each subscriber take up together. Every write of a filter
-- changes its subscriber's row in the same transaction, after the filter's own row,
-- if there was one: so writes of one subscriber wait for each other, and a quota holds.
create table if not exists filter_counts (
    subscriber_id text collate "C" primary key,
    filters       bigint not null,
    n_values      bigint not null,
    n_tried       bigint not null,
    n_broad       bigint not null,
    n_bytes       bigint not null
) with (fillfactor = 70);

-- One row. Rows of filters that were deleted are purged in time; a reader that
-- has not seen all of them starts again, and so does one that may be in another
-- database than before.
create table if not exists filter_changes (
    one_row  boolean primary key default true check (one_row),
    database uuid not null default gen_random_uuid(),
    purged   xid8 not null default '0' -- no purged row was changed later than in this
);

insert into filter_changes default values on conflict do nothing;

-- One row: the topic whose pipeline uses this database. Its filter services say so again
-- every few seconds. As long as they do, those of another topic wait.
create table if not exists pipeline (
    one_row boolean primary key default true check (one_row),
    topic   uuid not null,
    name    text not null, -- the topic's
    seen_at timestamptz not null
) with (fillfactor = 50);

-- For each idempotency key, which filter was created with it. The rest of the
-- answer is what was asked for, and that is known by its hash.
create table if not exists idempotency_keys (
    key        text collate "C" primary key,
    request    bytea not null, -- SHA-256 of the filter's JSON
    filter_id  uuid not null,
    created_at timestamptz not null default now()
);

create index if not exists idempotency_keys_created on idempotency_keys (created_at);

-- The same for imports, of which the answer is a number.
create table if not exists import_keys (
    key        text collate "C" primary key,
    request    bytea not null default '', -- SHA-256 of the filters' JSON
    imported   bigint not null default 0,
    created_at timestamptz not null default now()
);

create index if not exists import_keys_created on import_keys (created_at);

-- How far each durable subscriber acknowledged its events: a cursor, in parts
-- so that two can be merged here. The rows are updated all the time and in
-- place: what is not indexed, and room on the page, keep that cheap.
create table if not exists acks (
    subscriber_id text collate "C" primary key, -- in the order that programs see
    acked_at      timestamptz not null,
    topic         uuid not null,
    next          bigint[] not null, -- next offset, by partition
    issued        timestamptz not null,
    gateway       bigint not null,   -- its 64 bits, as a signed number
    seat          bigint not null,
    old_gateway   bigint not null,
    old_seat      bigint not null
) with (fillfactor = 70);

-- Keys to the API. The key itself is kept nowhere. Rows stay when keys are
-- revoked: once there was one, the API asks for one.
create table if not exists api_keys (
    id         text primary key, -- the middle of the key
    name       text not null,
    scope      text not null check (scope in ('read', 'write', 'admin')),
    hash       bytea not null check (length(hash) = 32), -- SHA-256 of the key
    created_at timestamptz not null,
    revoked_at timestamptz
);

-- Tokens that were taken back before they end. A reader goes on from the
-- transaction that it has seen, as with filters.
create table if not exists revocations (
    kind       text not null check (kind in ('subscriber', 'token')),
    id         text collate "C" not null, -- of the subscriber, or the token's jti
    revoked_at timestamptz not null,      -- a subscriber's tokens issued until then are revoked
    expires_at timestamptz not null,      -- no token that it concerns counts after that
    changed_in xid8 not null default pg_current_xact_id(),
    primary key (kind, id)
);

create index if not exists revocations_changed on revocations (changed_in);
create index if not exists revocations_expire on revocations (expires_at);

-- To find out whether writing works it is tried: one row is changed, and to another
-- table, which stays empty, a page is added that is taken back. What takes it up is not
-- compressed.
create table if not exists write_trials (
    one_row  boolean primary key default true check (one_row),
    tried_at timestamptz not null default now()
);

create table if not exists write_trial_pages (pad bytea);

alter table write_trial_pages alter column pad set storage plain;

-- One row: when the last purge was taken on by somebody, and when one last ended well.
create table if not exists purges (
    one_row  boolean primary key default true check (one_row),
    begun_at timestamptz,
    done_at  timestamptz
);

insert into purges default values on conflict do nothing;

commit;
