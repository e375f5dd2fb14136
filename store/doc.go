// Package store is the service's way to Postgres: a pool whose connections know
// which history they read, and transactions that report what a stamp needs.
//
// A DB hands out a pgx.Tx, so whatever takes one works in it: the packages that
// sqlc generates, river's InsertTx, scany, batches, COPY, savepoints. Read is for
// one statement, ReadTx for several of one snapshot, InTx for mutations. Who has
// a pool of pgx's own ties it to the epoch with Guard; whoever talks to Postgres in
// another way proves with WhoSQL and CheckWho that it talks to this one.
//
// What it holds up:
//
//   - Every connection is tagged when it opens with the epoch that it reads;
//     behind a pooler, each transaction proves it. A standby, and a database
//     without an epoch, are refused; a Call that names an epoch never reads another
//     one's data (G4, G6).
//   - A mutation leaves an Outcome: its transaction id and a position read after
//     its COMMIT or ROLLBACK on the same connection. Whatever the mutation did or
//     saw is at or below that position (G5).
//   - A COMMIT whose answer was lost is resolved by asking for the transaction's
//     status, so a committed write is not reported as failed. Where that can't be
//     known it says so, with ErrCommitUnknown.
//   - Every call ends in time, and writes that wait leave connections to reads.
//     A COMMIT is the exception: it goes on without its caller.
//   - Ready says whether calls can have connections and use them, for as long as
//     Watch runs.
//
// What it does not promise: waiting until a write is visible on the node's
// frontier (package intercept does), and ordering between transactions other
// than Postgres' own.
//
// A DB is safe for concurrent use. The pgx.Tx that a function is handed is one
// connection: for that function only, and not for several goroutines at once.
package store
