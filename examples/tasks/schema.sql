-- What the service needs of the database, made by its owner. It may be run again.
create schema if not exists work;

do $$ begin
  create type work.status as enum ('open', 'in progress', 'done');
  create domain work.slug as varchar(40) check (value ~ '^[a-z][a-z0-9-]*$');
exception when duplicate_object then null;
end $$;

create table if not exists work.projects (
  tenant work.slug not null,
  id     work.slug not null,
  title  text not null,
  primary key (tenant, id)
);

create table if not exists work.tasks (
  tenant     work.slug not null,
  project    work.slug not null,
  id         uuid not null default gen_random_uuid(),
  title      text not null,
  status     work.status not null default 'open',
  due        date,
  deleted_at timestamptz, -- rows stay
  primary key (tenant, id),
  foreign key (tenant, project) references work.projects
);
-- A topic has the day, which may be NULL, so no index can be the identity.
alter table work.tasks replica identity full;

create table if not exists work."taskComments" (
  tenant work.slug not null,
  task   uuid not null,
  id     bigint generated always as identity,
  author text not null,
  body   text not null,
  primary key (tenant, task, id),
  foreign key (tenant, task) references work.tasks
);

create table if not exists labels (
  tenant work.slug not null,
  id     work.slug not null,
  name   text not null,
  primary key (tenant, id)
);

create table if not exists task_labels (
  tenant work.slug not null,
  task   uuid not null,
  label  work.slug not null,
  primary key (tenant, task, label),
  foreign key (tenant, task) references work.tasks,
  foreign key (tenant, label) references labels
);

create table if not exists activity (
  tenant  work.slug not null,
  project work.slug not null,
  at      timestamptz not null default clock_timestamp(),
  id      bigint generated always as identity,
  what    text not null,
  primary key (tenant, project, at, id)
) partition by range (at);
create table if not exists activity_2026 partition of activity for values from ('2026-01-01') to ('2027-01-01');
create table if not exists activity_others partition of activity default;

create materialized view if not exists work.board_stats as
select tenant, project, count(*) filter (where status <> 'done') as open, count(*) filter (where status = 'done') as done
from work.tasks where deleted_at is null group by tenant, project;
create unique index if not exists board_stats_key on work.board_stats (tenant, project);

-- Each tenant sees and writes its own rows. Freshet sets the claims of who calls in
-- each transaction; without them nobody sees a thing.
create or replace function work.tenant() returns text language sql stable
return nullif(current_setting('request.jwt.claims', true), '')::json ->> 'tenant';

do $$ declare t regclass; begin
  foreach t in array array['work.projects', 'work.tasks', 'work."taskComments"', 'labels', 'task_labels', 'activity']::regclass[] loop
    execute format('alter table %s enable row level security', t);
    execute format('drop policy if exists own on %s', t);
    execute format('create policy own on %s using (tenant = work.tenant())', t);
  end loop;
end $$;

-- A materialized view has no policies, so callers read a view of it.
create or replace view work.own_stats with (security_barrier) as
select * from work.board_stats where tenant = work.tenant();

-- The service's role owns nothing, so policies hold for it.
do $$ begin
  create role tasks login;
exception when duplicate_object then null;
end $$;
grant usage on schema work, freshet to tasks;
grant select, insert, update on all tables in schema work, public to tasks;
grant select, insert, update, delete on all tables in schema freshet to tasks;
