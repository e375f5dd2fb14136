-- +goose Up

-- The schema freshet is there: goose's version table lives in it, for which
-- store/migrate.go makes it.

-- Whoever uses the pool reads the epoch when a connection opens, whatever role
-- it is.
grant usage on schema freshet to public;

-- One row names the epoch: the uninterrupted run of this database. UNLOGGED is
-- the point: crash recovery, promotion of a standby and a crash-consistent
-- restore empty the table, and those are just the moments after which commits
-- that somebody saw may be gone and WAL positions be used again.
create unlogged table freshet.incarnation (
    "only" boolean primary key default true check ("only"),
    epoch bigint not null check (epoch between 1 and 4294967295),
    system_identifier text not null,
    timeline bigint not null,
    postmaster_start timestamptz not null
);
grant select on freshet.incarnation to public;

-- The last epoch given, logged, so that the next one is higher whatever the
-- clock says.
create table freshet.epoch (
    "only" boolean primary key default true check ("only"),
    last bigint not null check (last between 1 and 4294967295)
);
grant select on freshet.epoch to public;

-- What the catalog said about each source when it was last looked at.
create table freshet.fingerprint (
    source text primary key,
    value text not null
);
grant select on freshet.fingerprint to public;

-- uuidv7 is RFC 9562's time-ordered UUID: 48 bits of Unix milliseconds, 12 bits
-- of their fraction (method 3: a step is about a quarter of a microsecond), 62
-- random bits. PostgreSQL has one of its own from version 18 on only. Ids made
-- one after the other ascend as long as the clock does.
--
-- 28672 is 0x7000, the version in the upper four bits of bytes 7 and 8, so the
-- largest value, 0x7fff, just fits an int2. gen_random_uuid has set the variant.
-- +goose StatementBegin
create function freshet.uuidv7() returns uuid
language sql volatile parallel safe
return (
    select encode(
        overlay(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send(t.us / 1000) from 3) from 1 for 6)
            placing int2send((28672 + t.us % 1000 * 4096 / 1000)::int2) from 7 for 2),
        'hex')::uuid
    from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as us) as t
);
-- +goose StatementEnd

-- +goose Down

-- The schema stays: goose's version table is in it.
drop function freshet.uuidv7();
drop table freshet.fingerprint;
drop table freshet.epoch;
drop table freshet.incarnation;
revoke usage on schema freshet from public;
