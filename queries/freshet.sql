-- ConnectionTag says which history a connection reads. On a standby it fails
-- with 0A000: an unlogged table can't be read there.
-- name: ConnectionTag :one
select epoch, pg_is_in_recovery()::boolean as in_recovery from freshet.incarnation;

-- TransactionStatus settles a COMMIT whose answer was lost: 'in progress',
-- 'committed', 'aborted', or 'unknown' when it is too old.
-- name: TransactionStatus :one
select coalesce(pg_xact_status(cast(sqlc.arg(xid)::text as xid8)), 'unknown')::text as status;
