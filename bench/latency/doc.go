// Command latency measures how long it takes from a commit to the notice of it,
// and to the data refetched because of it:
//
//	make bench
//
// It starts `bin/freshet serve` as users do, on a private Postgres, and is then
// a black box's user: SQL writers, two streams, RPCs. Server, Postgres and this
// program share one machine, so their waiting for CPU is in the figures.
//
// One connection writes rows to conversations that are followed, a row per
// transaction, at random moments (exponential gaps). For each it takes the time
// right before COMMIT is sent and right after it has returned. Then:
//
//   - commit → notice: from COMMIT's return until the client package has handed
//     the `invalidate` frame that names the conversation's topic to its sink, on
//     a stream with throttle=0. Negative when the notice was faster than
//     COMMIT's answer; nothing is clamped but the plot's axis.
//   - commit → refetched data: from COMMIT's return until ListMessages
//     (page_size 1) at-least the notice's revision has answered with the row. A
//     first answer without it breaks guarantee G1: the run fails.
//   - the same notice on a second stream with the server's default throttle
//     (100 ms): what a client gets that asks for nothing. One stream follows
//     all conversations, so the throttle merges whatever happens within it.
//   - each from the sending of COMMIT too, and COMMIT itself.
//
// A conversation has one unfinished sample at a time, so every notice names its
// commit exactly, merged or not. A commit that isn't told, a stream that is cut,
// a load that can't be kept up with: the run fails instead of leaving it out.
//
// Scenarios: idle has these writes alone, loaded has background writers on other
// connections and conversations too, 1,000 writes/s in all, on a fixed schedule
// that doesn't wait for answers. Runs alternate, so that a slow phase of the
// machine meets both. "CPUs busy" is CPU time per second of wall time, from
// /proc: the server's process; Postgres with all its backends, those of the
// writers too; this program with streams, refetches and writers; others, which
// may have disturbed. "Other transactions" are those of the database that wrote
// nothing: the gate's queries, the reads, the server's watching.
package main
