// Command nodes measures what each further node costs the primary:
//
//	make bench/nodes
//
// One private Postgres, made as `bin/freshet serve` makes it, and 0, 1, 2, 4 and 8
// nodes on it, each `bin/freshet serve` in a process of its own with every default,
// and the same replication slot. Four writers come to a fixed rate of commits, of one
// row and of ten. The rate is fixed so that CPUs aren't saturated: what nodes take
// would otherwise be taken from the writers.
//
// Without a node there is no slot. The first node costs more than its share, since
// Postgres then writes WAL that can be decoded; so costs per node are the slope of a
// line through all counts of one node or more, by least squares.
//
// CPU time is that of Postgres with all its backends, from /proc, per row that was
// committed. Of it, walsenders' are those that decode, one per node, and sessions' the
// other connections of nodes: the gate's snapshots, the probe, the watchdog, the
// keeper. Nodes' own is that of their processes. The median of all rounds, which have
// all counts in an order that turns around from one to the next.
package main
