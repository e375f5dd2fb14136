// Package relay has one node of a fleet capture (the holder), and tells the others over
// NATS what has passed its gate, so that the primary decodes once and not once per node.
//
// # What is told
//
// Frames: of a stretch of the WAL, all that has changed in it. Each says where it begins
// and where it ends, in which epoch, and of which run of which database. A follower
// applies a frame only if its own frontier has reached the frame's beginning; and the
// epoch is the one that its own connection to the primary shows. Otherwise it asks for
// what has changed since its frontier, and if nobody answers, it begins anew where a
// frame does: nothing below is known then (wal.Sink.Begin).
//
// That a commit is visible on the primary is a fact, whoever has found it out. So frames
// may be lost, doubled, late or in another order, come from two holders at once or from
// one that was paused for an hour: that costs refetches which may be needless, and none
// that is needed is left out.
//
//	R1  A stretch is applied only to a frontier at or above its beginning (wal.Feed.Apply).
//	R2  A follower's frontier is a position up to which a gate of its epoch has let all
//	    through, and up to which its own sink was given all of it.
//	R3  How old what a follower knows is, it judges by positions that it has read from
//	    the primary itself (wal.Feed.Follow). No clock and no heartbeat of others counts.
//	R4  What is too large for a message is left out, and what follows shows the gap.
//	R5  What no node of the same history has sealed is dropped.
//
// # Who is the holder
//
// Whoever has the seat (wal.Seat), an advisory lock of the database. Nothing rests on
// that but the work that is spared. A holder without NATS gives the seat up and goes on
// for itself; others that have no NATS are behind and say so, or capture for themselves
// where Config.Fallback says that they may. And one that can't capture, for want of a
// replication slot say, gives the seat up too, and is told by whoever can (Relay.decide).
//
// # What it does not promise
//
//   - Protection from those who may read the subjects: they learn which topics change.
//     Who may publish there can cost work, and repeat what was told; what they make up
//     is dropped (seals). NATS is to keep them out, by accounts or permissions.
//   - That nodes of two contracts share a holder: each contract has its own.
package relay
