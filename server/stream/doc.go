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
//     grows with the number of events. A reader that doesn't drain blocks its
//     own goroutine for at most the write timeout, and is then cut.
//   - G9 honest staleness: a heartbeat tells the lag, and at once when the lag
//     crosses the bound, either way.
//
// # Invariants
//
//	S1  Notices are sent in the order in which they were taken, each whole
//	    before the next is taken. With I5 of the hub: no frame with id R leaves
//	    before every change ≤ R to a subscribed topic has left.
//	S2  The id of a frame is the notice's revision (invalidate), or the frontier
//	    of the notice that was taken and sent just before (ready, reset,
//	    frontier), but not below the id before it in the same history. Of a
//	    split list only the last frame has an id.
//	S3  The first frames are the catch-up, then ready. Each change that the hub
//	    publishes after that is told within the throttle, or, when the reader is
//	    slow, with the next frame that it takes.
//	S4  What is dirty is flushed before every heartbeat.
//	S5  One event in is one event out: nothing in a topic can end a line.
//
// # Concurrency
//
// A Server is safe for concurrent use. A stream runs on its handler's
// goroutine; the only other one is that of Run, which its caller owns.
//
// # What it does not promise
//
// Detection of a dead peer: a socket whose peer vanished takes heartbeats until
// TCP gives up or its buffer is full; then the write deadline cuts it. Over
// HTTP/2 the deadline resets the one stream; for a stalled connection
// http.HTTP2Config has WriteByteTimeout and PingTimeout.
package stream
