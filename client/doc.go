// Package client is Freshet's Go client: it follows the stream that says which
// topics changed, up to which revision, and it makes Connect calls that ask
// for data at least that fresh.
//
//   - [Client.Stream] follows topics until its context ends. It reconnects by
//     itself and resumes where it was told last, so that nothing is lost (G2)
//     and silence is noticed within 2.5 heartbeats (G9).
//   - [NewInterceptor], [AtLeast] and [CaptureStamp] put a revision on a Connect
//     request and read the stamp of its response (G5, G6).
//   - [Query] joins the two: it holds the latest answer of one call and
//     refetches it when the stream says that it changed. Which topics those are
//     is in the contract, the options of the method. What it keeps and what
//     it drops is decided by the client rule of docs/protocol.md: never
//     backwards (G4), and in the end equal to the database (G3).
//
// A Client is safe for concurrent use. Callbacks of one Stream are called one
// after the other, from the goroutine that called Stream.
//
// What this package does not promise: an event says that a topic changed, not
// how; several changes may arrive as one event, and an event may be repeated
// after a reconnect. Nothing is kept across processes, unless the caller stores
// the last revision and hands it back with [WithSince].
package client
