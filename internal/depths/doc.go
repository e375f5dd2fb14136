// Package depths tests that a service keeps Freshet's guarantees however it
// talks to Postgres: a client of its own (pgx, database/sql, GORM, bun), a pool
// that the node guards, or the node's own store with what works on a pgx.Tx
// (sqlc, river, batches, COPY, savepoints).
//
// It is a module of its own, so that Freshet needs none of these libraries, and
// holds tests alone. Each depth goes through the same stress ([stress]), and
// what was seen is judged by the same rules ([history]).
package depths
