// Package check judges a running Freshet server by what its clients see. It is
// a black box's user: simulated clients follow topics and refetch by the client
// rule (package client), writers change rows by RPC and by SQL, and all that
// happens is recorded in a [History]. Then each rule, a pure function over the
// history, counts what it observed and what broke it:
//
//   - G1 visible before told: a read that starts after an invalidation at R,
//     and asks at-least R or strongly, shows every commit up to R; so does a
//     SELECT on the primary. No answer is stamped below what it was asked for.
//   - G2 nothing lost: before a stream shows an id F, it has told every commit
//     up to F on its topics, or a reset; across naps and reconnects, and since
//     whatever revision each topic was subscribed with. An id of another epoch
//     comes after a reset.
//   - G3 convergence: when writes stop, every connected client comes to hold what
//     Postgres holds, within two heartbeats.
//   - G4 never backwards: a client never replaces an answer by an older one, no
//     request at-least a new epoch is answered from an old one, ids on a
//     connection never go back.
//   - G5 read your writes: a read at-least a write's stamp, and a strong read
//     after the write's response, show the write. The stamp is above whatever had
//     been told before the write was sent, and the topics beside it are all that
//     the write changed.
//   - G6 honest stamps: an answer stamped S shows every commit up to S, and
//     nothing that was rolled back.
//
// # What is asked of the server
//
// A rule sees only what somebody asks for, so clients differ. They subscribe by
// GET, POST and Watch, to the topics of conversations, of single messages, and of
// everything. Some resume again and again from old revisions, another one for each
// topic, from another epoch, with lists that don't fit into a frame. They read by
// ListMessages of one and of all conversations (some in small pages), GetMessage and
// ListConversations, by Connect's POST and GET (with If-None-Match, so that a 304 stands for the
// answer that it confirms), gRPC-Web and JSON. Writers create, update and delete by
// RPC; by SQL they insert, copy, update, move, delete, roll back, and tell topics of
// nobody's row. In a server of
// the checker's own (a [Stage]) they also truncate the table, and change rows while
// it is out of its publication.
//
// [Report.Exercised] counts each of these, and says what a run did not ask for: of
// that it knows nothing. No run of this package asks whether lag is told honestly,
// whether several nodes agree, whether anything leaks to whom it is not for, what
// happens to partitioned tables, and what differs by gRPC over HTTP/2.
//
// # What Postgres held
//
// It comes from the database itself: each SQL transaction writes a row of the
// checker's own with its xid and the WAL position before COMMIT; the position after
// it is read on the same connection; and a temporary replication slot of the
// checker's gives the exact position of each xid's commit. Without a slot, positions
// are known as intervals, and without a database RPC writes have their stamps only.
// Rules accuse only when every position in the interval breaks them, so that they
// see less then, and never accuse wrongly. Report.Notes says what a run could not
// see.
//
// A read of ListConversations shows numbers only. It is wrong when a number is below
// that of the messages that must be there, or above that of those that may be.
//
// # Rounds
//
// While writers write, faults happen that a seed has dealt: connections through a
// proxy of the checker's own are cut, refused, stalled and delayed, clients stop
// reading or freeze, a transaction stays open; and with a Stage, the server is
// killed, Postgres restarted and crashed, commits are held by synchronous
// replication, the slot is dropped. After each round writers rest, all clients must
// converge by what they are told alone, and the round is judged: what rules need of
// it later they remember, and it is forgotten, but for its writes. Every fourth round
// has no faults.
//
// What it does not promise: a run without violations is evidence, not proof. It
// bounds the rate: with N observations, below 3/N (95 %).
package check
