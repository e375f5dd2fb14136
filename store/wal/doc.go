// Package wal follows the write-ahead log of one database and tells a Sink, in
// order, which topics each commit has changed, at positions at which every client
// sees that commit. It is the only package that knows LSNs.
//
// # The way of a commit
//
// A Feed runs one session after the other, for as long as Run's context lives; a
// session is one set of connections to one primary. In it a commit passes, in this
// order:
//
//  1. filter.go: bytes of the replication connection. What is larger than anybody
//     needs (a message of a gigabyte, a row) is cut while it is read.
//  2. message.go, decode.go: messages of pgoutput become a transaction: its topics,
//     and patterns ("floors") where they can't be told one by one. What can't be
//     read is a floor, never silence.
//  3. gate.go: it waits until a snapshot of the primary shows it, behind all that
//     stand before it in the WAL; and until a look at the catalog, begun when it had
//     been received, has shown that decoding can be trusted (glance.go,
//     quarantine.go).
//  4. loops.go, apply: it is published, and the frontier is at its end. Whoever
//     expects its xid is told.
//  5. window.go, keeper.go: one of the nodes that follow the database moves the slot
//     that stays to there, a minute or 64 MiB later, so that whoever starts can replay
//     that stretch. The session's own slot, a copy (slot.go), is let go of at once.
//
// # Goroutines
//
// Run's goroutine makes a session and waits for it. The session has six loops,
// which its fields are grouped by (session.go); an error of any ends all:
//
//   - receive: steps 1 to 3, the queue's end
//   - release: from the queue's front, 3 and 4. It alone talks to the Sink about
//     commits, and alone moves the position that was applied
//   - pace: the answers that keep the walsender alive
//   - probe: reads the primary's position, for lag, for InsertPosition, and to nudge
//     where WAL would stay unflushed
//   - watch: takes sources through quarantine, and repeats the checks of package
//     setup
//   - keep: step 5. Its errors end nothing
//
// They share the gate, under the session's mutex, some atomics, and channels of
// capacity 1 that mean "look again". Each connection for SQL has one loop that uses
// it.
//
// # Guarantees
//
//   - What is published at a position is visible to every snapshot that is taken
//     after it, on the primary (G1): gate.go's invariants.
//   - Every committed change of a source in the contract is told, or its source is in
//     quarantine when the frontier reaches it (G2): decode.go's invariant, Q1 to Q3 in
//     quarantine.go. Between sessions nothing is lost: the slot keeps it, or a new
//     horizon says that nothing is known (Sink.Begin).
//   - Positions never go back within an epoch, and an epoch names one uninterrupted
//     history (G4): epoch.go. Each statement that moves the frontier proves the epoch,
//     and that it asked the primary.
//   - Memory is bounded whatever is written (G7): filter.go, gate.go, and the bound on
//     a transaction's topics.
//   - It never holds up the application: it is never a synchronous standby, waits for
//     no lock of the application's for longer than a moment, and lets go of the WAL as
//     the window says.
//
// # What it does not promise
//
//   - That Run makes progress: a commit that stays invisible holds all behind it, a
//     database that can't be reached ends session after session. Ready, Stats and
//     Quarantined say so; Run returns only when its context ends.
//   - Exactly-once: a topic may be told again, or told though no row of it changed.
//   - DDL that is flushed and still invisible when the catalog is looked at: its source
//     is held by the next look (docs/guarantees.md).
//   - A set-up: package setup makes it, this package only looks.
package wal
