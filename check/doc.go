// Package check finds out whether a running Freshet server keeps its promises. It
// knows the server only as clients do: it opens streams, sends RPCs, and, if it may,
// writes to the database beside the server and asks it what it holds. [Run] does that
// for a while and returns a [Report]; `freshet check` is Run for the message service.
//
// # What a run does
//
// Simulated clients follow topics and fetch again when they are told to, by the same
// rule as package client. Writers change rows, by RPC and by SQL. Everything that was
// done and seen is written down with its time: a [History]. Then each [Rule] goes
// through the history, counts how often it could have been broken (observations) and
// how often it was (violations), and keeps the shortest piece of history that shows a
// violation by itself.
//
// Each row that a writer makes bears a mark, its [Cell]: the number of the row and of
// its version. Only one writer ever changes a row, and it counts versions up. So
// whatever an answer shows can be dated: version 3 of row 7 is there if and only if a
// known write was committed and no later one is.
//
// # The rules
//
// They are the guarantees of docs/guarantees.md. R is a revision, a position in the
// order of all commits, as the server tells it.
//
//   - G1, visible before told: once anybody was told that something changed up to R,
//     a read that starts later (at-least R, or strong, which is without an at-least)
//     shows every commit up to R, and so does a SELECT on the primary. No answer is
//     stamped below what it was asked for.
//   - G2, nothing lost: when a stream shows an id R, it has told before of every
//     commit up to R on its topics, or has said `reset`; also across reconnects, and
//     since whatever revision each topic was subscribed with. An id of another epoch
//     (another history of the database) comes after a reset only. An answer whose topic
//     takes a claim of the caller names the one of whoever called.
//   - G3, convergence: when writes stop, every connected client comes to show what
//     Postgres holds, within two heartbeats.
//   - G4, never backwards: no client replaces an answer by an older one, no request
//     at-least a new epoch is answered from an old one, and ids on one connection
//     never go back.
//   - G5, read your writes: a read at-least the stamp of a write shows the write, and
//     so does a strong read that starts after the write's answer. The stamp is above
//     all that had been told before the write was sent, of no epoch that had ended
//     then, and the topics beside the stamp are all that the write changed.
//   - G6, honest stamps: an answer stamped R shows every commit up to R, and nothing
//     that was rolled back.
//
// # Which service
//
// The rules know rows in places and nothing else. A [Workload] says what these are in
// a service: which topics there are and what their reads show ([Kind]), which RPCs
// read and write, and which table holds the rows. See the example of Run. A service
// with more than one table is checked by one workload for each. Where an answer depends
// on rows that its request doesn't name (response_topics), the topic of a place is
// ByRow: clients follow what their answers depend on then, and subscribe anew when that
// is something else. Where it depends on who asks (a topic that takes a claim of the
// caller), there is a topic [OfCaller]: each client asks as somebody, follows what the
// answer names by that one's claim, and now and then is taken over by somebody else, to
// whom nothing belongs that was shown before.
//
// # What is asked of the server
//
// A rule sees only what somebody asks for, so clients differ. They subscribe by GET,
// POST and Watch, to places, to single rows and to everything. Some come back again
// and again with old revisions, another for each topic, from another epoch, with
// lists of topics that don't fit into a frame. They read by Connect's POST and GET
// (with If-None-Match, so that a 304 stands for the answer that it confirms), gRPC-Web
// and JSON, lists in large pages and small. By SQL, writers insert, copy, update,
// move, delete, roll back, and tell topics of nobody's row. On a [Stage], which is a
// server of the checker's own, they also truncate the table, and change rows while it
// is out of its publication.
//
// Report.Exercised counts all these, and names what a run did not ask for: of that it
// knows nothing. No run of this package asks whether lag is told honestly, whether
// anything leaks to whom it is not for, what happens to partitioned tables, and what
// differs by gRPC over HTTP/2.
//
// A Stage may have several nodes behind a balancer that ties no client to one of them:
// then the stream that tells of a write, the write and the read that it leads to are on
// different nodes as a rule, and whatever can happen to a node happens to each in turn.
// The rules are the same.
//
// # When was a row committed?
//
// Postgres itself says it. Each SQL transaction writes a row of the checker's own with
// its transaction id and the WAL position before COMMIT; the position after COMMIT is
// read on the same connection; and a temporary replication slot of the checker's gives
// the exact position of each commit. Without a slot a commit's position is known as an
// interval, and without a database writes by RPC have their stamps only. A rule accuses
// only if every position in the interval breaks it: it sees less then, and never
// accuses wrongly. Report.Notes says what a run could not see.
//
// The read of a topic that shows numbers only ([OfCounts]) is wrong when a number is
// below that of the rows that must be there, or above that of those that may be.
//
// # What Postgres loses
//
// A failover to a standby that was behind loses commits that had been acknowledged, and
// so does a crash what was committed asynchronously. That is no promise of the server's:
// when a round ends, the checker asks Postgres what it holds, and what was acknowledged
// in an earlier epoch and isn't there is lost. Report.Lost counts it, and no rule is held
// to it in epochs from then on. All else is due as ever; and what is lost must be gone:
// no answer of a later epoch may show it (G6), nor a client that is connected, once its
// time is over (G3). Postgres loses the end of its log only. So what is missing from
// below a commit of the same epoch that is there was never committed, whoever said so.
//
// # Rounds and faults
//
// A run has rounds. In each, writers write for some seconds while faults happen that
// a seed has dealt: connections through a proxy of the checker's own are cut, refused,
// stalled and delayed, clients stop reading or freeze, a transaction stays open; and
// on a Stage the server is killed, frozen and cut off from its database, Postgres restarted
// and crashed, commits are held by synchronous replication, the slot is dropped, and the
// standby that it reads from is paused, killed and cut off, and the servers of NATS by
// which its nodes tell each other are killed and frozen. Then writers rest, every client must
// come to show what Postgres holds by what it is told alone, and the round is judged: so long
// after writes have stopped, after its stream began, and after anybody was told of the
// epoch that Postgres is at, whichever was last. Time in which the checker stood still, with
// its clients, counts for nobody. While Postgres can't be asked, the round isn't judged but
// goes on with the next.
// What rules need of it later they remember; the rest is forgotten, but for its
// writes. Every fourth round has no faults.
//
// # What it does not promise
//
// A run without violations is evidence, not proof. It bounds the rate: with N
// observations it is below 3/N, with 95 % confidence, as far as observations are
// independent.
package check
