// Package intercept is everything that happens around a handler: it makes
// answers honest about their age, waits for what a caller has already seen,
// settles writes before they are answered, and keeps internal text inside.
// One step or HTTP middleware per file; Options puts them in order.
//
// It upholds:
//
//   - G1 and G5: a request at-least R runs only once the node's frontier has
//     reached R, or fails; it never answers with less.
//   - G6: a read is stamped with a frontier that was read before its query's
//     snapshot, and with nothing else. A write is stamped with a need: the
//     revision that a later read must reach to contain it.
//   - G7: reads of the same thing share one query, and an answer is kept until
//     one of its topics changes: see server/reuse.
//   - G8: no answer crosses principals unless its method says that it may;
//     no Go type name, SQL or driver text leaves the server.
//
// It does not promise that a write's topics are known when it is answered
// (Freshet-Topics is then left out), nor that a stamp is as high as it could
// be: what an answer holds above its stamp may come and go until it is told.
//
// Everything here is safe for concurrent use. A shared query runs on a
// goroutine of its own, with the context values of its first caller and a
// deadline of its own; it is cancelled when the last caller has left. So the
// handler of a read must not touch its caller's response through
// connect.CallInfo; headers go on the response that it returns.
package intercept
