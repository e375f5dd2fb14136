// Package reuse answers reads with as few queries as their callers' demands on
// freshness allow: reads of the same thing share one query, and an answer is kept
// until one of its topics changes, together with the bytes that it is sent as.
//
// It upholds:
//
//   - G6: the stamp of an answer is a frontier that was read before its query's
//     snapshot, or a later one up to which nothing that it depends on has changed.
//     Nobody is given less than it asked for.
//   - G7: of one read at most one query runs and one waits, and those that several
//     clients are after are paced; what is kept is bounded in bytes.
//   - G8: no answer crosses subjects unless its method says that it may.
//
// The parts, along the path of a read: Reads (what a caller asks of an answer, and
// what it gets), cache (answers), flights (queries that are shared), form (the
// bytes of an answer, which the codecs and the compressor take instead of making
// them again).
//
// It knows of no interceptor, header, pool or transaction: whoever asks brings the
// query along. So it lies below server/intercept, which uses it.
//
// Everything here is safe for concurrent use. A shared query runs on a goroutine
// of its own, with the context values of its first caller and a deadline of its
// own; it is cancelled when the last caller has left. The goroutine has no other
// owner: Do has returned to every caller only when the query has, or was cancelled.
package reuse
