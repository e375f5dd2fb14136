-- The key holds the columns of the topics, so that it shows in the WAL which
-- project a row was in when it is deleted or moved.
create table if not exists tasks (
  project    text not null check (project not in ('', '-')),
  id         uuid not null default gen_random_uuid(),
  title      text not null check (title <> ''),
  done       boolean not null default false,
  created_at timestamptz not null default now(),
  primary key (project, id)
);
