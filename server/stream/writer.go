package stream

import "net/http"

// PassThrough is for the ResponseWriter of a middleware that changes nothing of
// what a stream writes and needs to see nothing of it: it returns the writer
// beneath. The stream may then take the connection over from net/http, as it does
// without a middleware, and writes past this one from the first frame on.
//
// A writer that implements only http.Hijacker, or Unwrap, is taken for one that
// compresses, counts or rewrites: its streams stay with their handler, and all
// they write goes through it.
type PassThrough interface {
	http.ResponseWriter
	PassThrough() http.ResponseWriter
}
