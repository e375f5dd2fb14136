// Package systemtest holds tests of the whole server over its public API: what
// users start, against a real Postgres that is killed, frozen and restarted,
// with clients that follow the client rule. `make soak` is one of them.
package systemtest
