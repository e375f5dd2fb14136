//go:build linux

// Command refetch measures what it costs when everybody asks again: thousands
// of clients that read the same after one write.
//
//	make bench/refetch
//
// It starts `bin/freshet serve` as users do, on a private Postgres that counts
// statements (pg_stat_statements). A driver in a process of its own, one thread
// with epoll(7), holds Connections keep-alive HTTP/1.1 connections. One message
// is written by SQL. Once the stream has told it, every connection sends the
// same ListMessages (a page of 50) at-least the notice's revision:
//
//   - CPU per answer: what the threads of the server's process have run meanwhile
//     (/proc, in nanoseconds), over the answers. That holds the server's part of
//     the query, its garbage collection, and the kernel's work in its system
//     calls, but nothing of Postgres.
//   - last: from the first request's sending to the end of the last answer. Server
//     and driver share the machine, so it holds the driver's work too.
//   - statements: reads of messages that Postgres has counted since before the
//     write. One is expected, whatever the number of connections.
//
// Then everybody asks once more, without another write: the answer is kept.
//
// The answer must hold the row that was written (G1), and all connections must
// get the same bytes, or the run fails.
//
// Beside it, over the same driver and as many connections, a plain net/http
// handler in a process of its own, which says what Freshet has just said: the same
// header, the same bytes. Twice: as net/http sends a body of more than 2 KiB whose
// length it wasn't told, in chunks; and with Content-Length.
//
// Each round does this in JSON and in protobuf, plain and with gzip, and the
// three take turns in being first. Figures are medians over the rounds; a ratio
// is the median of the rounds' ratios. A first round warms up, and isn't counted.
package main
