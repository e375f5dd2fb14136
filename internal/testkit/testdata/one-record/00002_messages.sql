-- +goose Up

-- People write to this table by SQL as well, so whatever must hold is said
-- here: defaults, constraints, triggers.
create table public.messages (
    id uuid primary key default freshet.uuidv7(),

    -- "C" orders by bytes: the same pages whatever the database's locale.
    conversation text collate "C" not null,
    author text not null,
    body text not null,
    create_time timestamptz not null default clock_timestamp(),
    update_time timestamptz not null, -- by trigger
    etag uuid not null,               -- by trigger

    -- What makes the retry of a create return the first result. The hash is of
    -- the content as first written, since the body may have been edited before
    -- the retry arrives.
    request_id uuid,
    request_hash bytea, -- by trigger

    constraint messages_conversation_check
        check (conversation ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    constraint messages_author_check
        check (char_length(author) between 1 and 128),
    constraint messages_body_check
        check (char_length(body) between 1 and 16384),

    -- What google.protobuf.Timestamp can hold; no infinity.
    constraint messages_time_check check (
        create_time >= '0001-01-01 00:00:00+00' and create_time < '10000-01-01 00:00:00+00'
        and update_time >= '0001-01-01 00:00:00+00' and update_time < '10000-01-01 00:00:00+00'),

    -- Lookups by name, and the replica identity: an UPDATE or DELETE in the WAL
    -- then names the conversation that the row was in (the default identity
    -- would name the id alone).
    constraint messages_conversation_id_key unique (conversation, id)
);
alter table public.messages replica identity using index messages_conversation_id_key;

create unique index messages_request_key on public.messages (conversation, request_id)
    where request_id is not null;

-- Newest first, read backwards: (create_time, id) is a total order whatever ids
-- SQL writers choose.
create index messages_by_conversation on public.messages (conversation, create_time, id);
create index messages_by_time on public.messages (create_time, id);

-- The content of a create, in one place for the trigger and for retries. The
-- array keeps author and body apart: ('ab', 'c') is not ('a', 'bc').
-- +goose StatementBegin
create function public.message_request_hash(author text, body text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(jsonb_build_array(author, body)::text, 'UTF8'));
-- +goose StatementEnd

-- +goose StatementBegin
create function public.messages_insert() returns trigger
language plpgsql as $$
begin
    new.create_time := coalesce(new.create_time, clock_timestamp());
    -- An import keeps its times.
    new.update_time := coalesce(new.update_time, new.create_time);
    new.etag := gen_random_uuid();
    if new.request_id is not null and new.request_hash is null then
        new.request_hash := public.message_request_hash(new.author, new.body);
    end if;
    return new;
end
$$;
-- +goose StatementEnd

-- Every UPDATE is a new version, whoever runs it and whatever it sets: a stale
-- etag must never match. update_time strictly ascends even when the clock
-- steps back.
-- +goose StatementBegin
create function public.messages_update() returns trigger
language plpgsql as $$
begin
    new.update_time := greatest(clock_timestamp(), old.update_time + interval '1 microsecond');
    new.etag := gen_random_uuid();
    if new.request_id is distinct from old.request_id then
        new.request_hash := public.message_request_hash(new.author, new.body);
    end if;
    return new;
end
$$;
-- +goose StatementEnd

create trigger messages_insert before insert on public.messages
    for each row execute function public.messages_insert();
create trigger messages_update before update on public.messages
    for each row execute function public.messages_update();

-- +goose Down

drop table public.messages;
drop function public.messages_insert();
drop function public.messages_update();
drop function public.message_request_hash(text, text);
