// Package hub is the heart of one node: which topic changed last at which
// revision, how far the node has come, and who wants to be told. It knows
// nothing of Postgres, HTTP or protobuf.
//
// It upholds, for what the feed hands it:
//
//   - G2 nothing lost: a change to a subscribed topic stays in the
//     subscription's set of dirty topics until it is taken.
//   - G4 never backwards: within an epoch the frontier only rises, and so do
//     the revisions that a subscription is told.
//   - G6: Floor is never below the last change of the topics asked for, as of
//     any frontier read before the call.
//   - G7 bounded cost: memory is O(topics in the window + subscriptions × their
//     topics), never O(events). Publishing never waits for a reader.
//
// # Invariants
//
// Words: table is the map of topics with the position of their last change;
// last is the highest frontier served in this epoch; top is the highest
// position that the feed has told since Begin.
//
//	I1  For each topic t and each change of t at position p ≤ top:
//	    t is in the table at ≥ p, or a floor that matches t is ≥ p, or p ≤ horizon.
//	I2  Serving: frontier = top. Not serving: there is no frontier.
//	I3  Frontier and last never fall within an epoch. A history that begins
//	    again below last doesn't serve before it has reached last.
//	I4  For each subscription that isn't due a reset, each subscribed topic t and
//	    each change of t in (registration's frontier or t's since, last]: it was
//	    taken at a revision ≥ the change's, or t is dirty at a position ≥ it.
//	I5  The commits' marks and the frontier move together under the write lock, and
//	    Take reads both under the read lock: so when Take has returned N, every
//	    change ≤ max(N.Revision, N.Frontier) has been taken by N or before it.
//	    The frame rule (no frame with id R leaves before every change ≤ R to a
//	    subscribed topic has left, ids never go back) follows for a stream that
//	    sends its notices in the order in which it took them.
//	I6  While the hub isn't serving, no change is marked: between Begin and Serve
//	    there may be a gap, and a change after it must not be told before the gap
//	    is. Serve marks every topic of every subscription instead, or, when the
//	    epoch is another one, makes every subscription due a reset.
//
// # Concurrency
//
// The feed's methods (Begin, Publish, Serve, Advance, Current) are called by
// one goroutine at a time, in the order of history. Everything else may be
// called by anybody at any time.
//
// # What it does not promise
//
// That the feed tells the truth: Publish and Advance believe that nothing at
// or below their revision is still to come, and that it is visible.
package hub
