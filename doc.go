// Package freshet holds the words that every part of Freshet shares: revision,
// topic, pattern, commit.
//
// Freshet keeps every client's copy of server data fresh, and proves it. A
// typed RPC API reads and writes Postgres; a one-way stream says which topics
// changed, up to which revision; clients refetch. The guarantees that the code
// and its comments cite:
//
//   - G1 visible before told: a read that starts after a notice at revision R
//     and asks at-least R sees every commit up to R.
//   - G2 nothing lost: every committed change of a source row reaches every
//     subscriber of every topic of the old and the new row.
//   - G3 convergence: once writes stop, every connected client holds what
//     Postgres holds.
//   - G4 never backwards: a client never replaces data by data of an older
//     revision.
//   - G5 read your writes: a read at-least the stamp of a write contains it.
//   - G6 honest stamps: a stamp S on a response means that all commits up to S
//     on the read's topics are in it.
//   - G7 bounded cost: memory is O(topics + connections × their topics), never
//     O(events); statements are at most one per distinct at-least request.
//   - G8 nothing leaks: only a principal with a grant is told of a topic.
//   - G9 honest staleness: a feed that is behind or cut is told, never hidden.
//
// This package imports the standard library only, and its values are plain
// data: safe to copy, and safe for concurrent use unless somebody writes.
package freshet
