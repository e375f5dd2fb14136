-- TransactionStatus settles a COMMIT whose answer was lost: 'in progress',
-- 'committed', 'aborted', or 'unknown' when it is too old.
-- name: TransactionStatus :one
select coalesce(pg_xact_status(cast(sqlc.arg(xid)::text as xid8)), 'unknown')::text as status;
