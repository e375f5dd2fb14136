package intercept

import (
	"connectrpc.com/connect"
)

// Options returns the handler options of every service, the same for all. A unary
// call passes these steps, each of which wraps those below it:
//
//  0. trace, if anybody does: a span of all that follows
//  1. recover: a panic of a step or of the handler is an internal error
//  2. respond: the error table; puts stamp and topics on what is about data
//  3. validate: protovalidate; before authorization, since topics are built
//     from canonical names only
//  4. for the caller: the contract's topics take claims, or refuse who has none
//  5. authorize: the contract's topics against the caller's grants, before anything
//     waits, or is looked up among what others were answered
//  6. spelling: refuses topics that no row can have
//  7. at-least: waits for the frontier; before any connection is taken
//  8. explain, if anybody asks why: what has changed
//  9. untold: warns of reads whose request has no topics
//  10. conditional (GET): entity tags, 304
//  11. authorize the answer, where it has topics that its request doesn't tell:
//     before its tag is compared
//  12. read: kept answers, shared queries, stamps; what follows runs once for all
//     who share it. Or settle, of writes: waits for the frontier after the handler
//  13. audit: what the handler really read against the contract
//
// A stream passes the first three, and is denied if anything authorizes (but for
// Watch, which asks for itself): the contract knows of none.
func Options(cfg Config) []connect.HandlerOption {
	cfg = cfg.withDefaults()
	reads := cfg.reads()
	return append(append(cfg.Tracing.options(), reads.HandlerOptions()...),
		recoverPanics(cfg.Logger),
		connect.WithInterceptors(newChain(&cfg, reads)),
	)
}
