-- +goose Up

-- The row travels with a dump, and with a database that is made from this one as
-- its template; the oid doesn't. 0: not known, written by an older version.
alter table freshet.incarnation add column database oid not null default 0;

-- +goose Down

alter table freshet.incarnation drop column database;
