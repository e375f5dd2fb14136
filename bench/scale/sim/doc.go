// Package sim works out what a fleet of nodes would do under a load that no machine at
// hand can make: how busy everything is, what a client waits for, what gives out first.
// It is pure: no clock, no files, no network, and the same for the same seed.
//
// There are two views of one model, and tests hold them together:
//
//   - Expect has closed forms: means of what each part is asked to do, from rates
//     alone. It sizes fleets.
//   - Run is a discrete-event simulation, for what has no closed form: waiting, merged
//     notices, shared queries, bursts.
//
// # What is simulated
//
// One node in every detail, with the streams of its share of the clients; the primary
// with what all nodes and writers ask of it. By symmetry the other nodes do the same at
// other moments: what they send to the primary is sent, the inside of them isn't
// simulated. A commit is written on the primary, decoded by a walsender and by the node,
// held by the gate until a snapshot (one for whatever came meanwhile), told to its
// topic's followers, each at most once per throttle, who refetch: from a kept answer, by
// joining a query, or by a statement, of which there is one per key, node and pace
// window. With a relay one node decodes, and the others are sent its frames.
//
// # What is not
//
// Costs are constants: a cache that grows cold, a lock that is fought over and a core
// that is slower when its neighbour works are in them only as far as they were when
// they were measured. The feed and what serves streams and calls don't wait for each
// other's CPU, nor does the detailed node's walsender for that of other backends. Writers never wait for a lock of each
// other's, and a commit is visible when the walsender has sent it. Clients don't
// come and go; nobody is slow. Followers of a topic are as many for each topic.
package sim
