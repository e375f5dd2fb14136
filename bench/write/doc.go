// Command write measures what following the writes costs those who write:
//
//	make bench/write
//
// One private Postgres, made as `bin/freshet serve` makes it. 1, 8 and 32
// writers, each with a connection of its own, insert rows of 200 bytes as fast
// as they can, one per transaction, into 100 conversations. Beside them:
//
//   - bare: nothing. No server, no slot, no publication, no trigger.
//   - capture: `bin/freshet serve` in a process of its own, with every default,
//     and one stream of the topic `messages`, which every row changes.
//   - notify: a trigger that calls pg_notify for each row, and one connection
//     that listens.
//   - poll: one client that runs the service's own list query (the newest 50) for
//     each conversation once a second. It doesn't grow with the writes, but with
//     the clients; what it finds is up to a second old.
//
// Postgres, server, writers and whoever follows share one machine: with its CPUs
// saturated, what following takes is taken from the writers.
//
// Variants alternate: each round has all of them for each number of writers, in
// an order that moves on from round to round. Each starts with an empty table
// after a checkpoint, and a warm-up that doesn't count. Ratios are to the bare
// writes of the same round and number of writers; the table has the medians.
//
// Nobody may gain by leaving rows out: after each variant, the table holds as
// many as COMMITs have returned, and all of them must have been told. The
// listener must have had each row. The stream must name a topic of its own that
// one more row changes, written after all others; commits are told in order, so
// they have been told by then. "All told after" is from the return of the last
// writer's COMMIT until that moment, throttle (100 ms) included. A row that isn't
// told, a stream that is cut: the run fails.
//
// CPU seconds are of the measured time, from /proc: Postgres with all its
// backends, the server's process, and this program with the writers and those who
// follow.
package main
