// Package stream tells clients which topics changed, up to which revision, and
// nothing else: as Server-Sent Events (GET and POST on one path) and as
// freshet.v1.InvalidationService/Watch. Both are one loop (session) with two
// encoders.
//
// It upholds, on top of server/hub:
//
//   - G2 nothing lost: a subscription is registered before its catch-up is
//     read, and ready is said after the catch-up; a reconnect with the last id
//     begins where that id left off, or with a reset.
//   - G4 never backwards: ids never go back within a stream.
//   - G7 bounded cost: a stream holds its topics and one frame, and nothing that
//     grows with the number of events. A reader that doesn't drain blocks a
//     goroutine of its own for at most the write timeout, and is then cut.
//   - G9 honest staleness: a heartbeat tells the lag, and at once when the lag
//     crosses the bound, either way.
//
// # Invariants
//
// A notice is what a session takes from the hub in one go: a revision, and those of
// its topics that changed up to it and have not been told yet. A client that
// reconnects names the last id that it read, and is told what changed after that;
// so an id is a promise that everything up to it has been told.
//
//	S1  Notices are sent in the order in which they were taken, each whole before
//	    the next is taken. Since no change at or below a notice's revision is left
//	    in the hub once it was taken (I5 of the hub), no frame with id R leaves
//	    before every change ≤ R to a subscribed topic has left.
//	S2  The id of an invalidate is its notice's revision. Frames that tell of no
//	    change (ready, reset, frontier) have the frontier of the notice that was
//	    sent just before them; if an earlier frame of the same history had a
//	    higher id, they repeat that, so that ids never go back. A list of topics
//	    that is too long for one frame is split, and only the last part has an id:
//	    whoever reconnects after a first part has to be told all of it again.
//	S3  The first frames tell what changed before the stream began (the catch-up),
//	    then comes ready. Each change that the hub publishes after that is told
//	    within the throttle, or, when the reader is slow, with the next frame that
//	    it takes.
//	S4  Whatever has changed and is not told yet is told before a heartbeat, also
//	    within the throttle: a heartbeat's id is a promise as well.
//	S5  One event in is one event out: nothing in a topic can end a line.
//
// # Two ways to run a stream
//
// Catch-up and ready always leave from the handler. After that a stream by Watch, or
// behind middleware that does something with what is written, stays there: one
// goroutine that waits (session.live). With HTTP/1.1 (Linux), over TLS too, the
// connection is taken over from net/http, and the handler returns: an idle stream then
// has no goroutine and no buffer, some 2 KiB instead of 28. Whatever happens to it puts
// it into the queue of one of a few pumps, which takes its notice and writes as much of
// the frame as the socket takes without waiting. Only what doesn't fit costs a
// goroutine, until it has left (S1 holds: meanwhile nothing more is taken). Both ways
// share session, hub and tests. In order:
//
//	outlet   what session.live does, as steps of a pump
//	socket   the connection: a write that doesn't wait, bounded buffers
//	peers    who hangs up, which net/http would notice by reading
//
// Over HTTP/2, which shares its connection, the goroutine has to stay, but Shallow has
// it wait below all handlers, as an outlet without a pump: its stack halves.
//
// When the caller's credential expires is one more time that both ways wait for, by
// the timer that the next heartbeat has. A stream that is to end for that, or because
// its grant was withdrawn, says so as its last frame (ending); its catch-up, a notice
// or a heartbeat that was about to leave is dropped.
//
// # Concurrency
//
// A Server is safe for concurrent use. A stream's session belongs to its
// handler's goroutine or to its pump; a pump has a goroutine while there is
// something in its queue. One goroutine watches all connections that were taken
// over, while there are any. Shutdown waits for these. That of Run is its
// caller's.
//
// # What it does not promise
//
// Detection of a dead peer on a handler's connection: a socket whose peer
// vanished takes heartbeats until TCP gives up or its buffer is full; then the
// write deadline cuts it. (One that was taken over is cut when what was sent has
// not been acknowledged for 2.5 heartbeats.) Over HTTP/2 the deadline resets the
// one stream; for a stalled connection http.HTTP2Config has WriteByteTimeout
// and PingTimeout.
package stream
