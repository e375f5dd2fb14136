// Command scale works out what fleets of nodes would do, up to ten million clients: how
// many nodes, what the primary, replicas and a message bus have to do, what a client
// waits for, what it costs, and what gives out first.
//
//	make bench/scale
//
// It prints the table, and writes it with the plots to a folder of bench/results. What
// happens is simulated by bench/scale/sim; what a thing costs is measured, on one machine, by
//
//	go run ./bench/scale measure
//
// into measured.json of a folder of results. The newest one is used.
//
// # What is measured
//
// One private Postgres, and nodes on it, each `bin/freshet serve` in a process of its
// own with every default but limits. Cells are a load on a number of nodes; in each
// round every cell is measured, in an order that turns around from one round to the
// next; figures are medians over the rounds.
//
//   - commits: writers that commit rows at a rate, or as fast as they can, with nobody
//     connected, on 1, 2 and 4 nodes.
//   - fan-out: 2,000 streams per node without a throttle, of 20 topics in turn; 100
//     commits a second, each told to a twentieth of all streams. On 1 node and on 3 with
//     as many streams each: does a node have the same to do for three times as many?
//   - calls: reads of a page of 50 that a kept answer serves, strong reads, and writes,
//     300 a second and as fast as they go.
//   - nats: frames to subscribers of a bare nats-server.
//
// All of it is CPU time by process, of each node, and of each of Postgres' processes by
// what it does, to the nanosecond of /proc/<pid>/schedstat: cores are shared, with
// whatever else the machine does, so times on the clock would say nothing. A machine
// with other things to do makes things dearer (its caches are cold) or cheaper (who
// wakes late finds more to do at once).
//
// # What the costs are taken from
//
// See fit. Those at high rates, which count for fleets, are from the cells that go flat
// out; what a process takes to be woken is from the others. Costs of frames and kept
// answers are older results of benches of their own (bench/results).
package main
