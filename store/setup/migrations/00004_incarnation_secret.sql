-- +goose Up

-- What nodes that tell each other over NATS know of each other by (decision 0020). It
-- comes and goes with the epoch. Not for everybody who may read the epoch.
alter table freshet.incarnation add column secret bytea;
revoke select on freshet.incarnation from public;
grant select ("only", epoch, system_identifier, timeline, postmaster_start, database) on freshet.incarnation to public;

-- +goose Down

alter table freshet.incarnation drop column secret;
revoke select ("only", epoch, system_identifier, timeline, postmaster_start, database) on freshet.incarnation from public;
grant select on freshet.incarnation to public;
