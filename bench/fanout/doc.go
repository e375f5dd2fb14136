// Package fanout is the other side of the fan-out benchmarks in bench/peers:
// thousands of readers of one event stream in one thread, and what the kernel
// says about the cost of a server's processes. It uses the standard library
// only, and Linux.
//
// The readers speak to whoever measures in lines of JSON over stdin and stdout
// (Serve, Control), so that they run in a process of their own and none of
// their work is taken for the server's.
//
// # What counts as a notice
//
// A frame of any server that has `"spread_ms"` in it, as the data of Freshet's
// `invalidate` has. Its revision's position is the time at which it was
// published, in nanoseconds since 1970: how long a notice was under way needs no
// list of what was sent. Of notices that a server merged it is the last one's.
//
// # What it does not promise
//
// That the readers are fast enough: they share the machine with the server. CPU
// time per notice doesn't depend on that, times until delivery do.
package fanout
