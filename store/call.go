package store

import (
	"context"
	"slices"
	"sync"

	"github.com/freshet-dev/freshet"
)

// Call is what one RPC tells the store, and what it learns from it. It travels
// in the context. The zero value asks for nothing and is ready for use; the
// exported fields are not to be changed once it is in a context. Its methods
// are safe for concurrent use.
type Call struct {
	// Epoch is the only epoch whose connections may serve the call, or else it
	// fails with ErrEpoch. Zero: any.
	Epoch freshet.Epoch

	// Guarded is the epoch of the node as a write begins, where Epoch is zero. A
	// guarded pool hands out no connections of another one to the call; InTx has none of
	// an earlier one, and asks its transaction afterwards where it went, which a foreign
	// pool's can't be. Zero: any.
	Guarded freshet.Epoch

	// AtLeast lets the call's reads run on a replica that has replayed this much (see
	// Config.Replicas), which Reached then tells. It is of Epoch, and at or below a
	// frontier that was read before the call. Zero: they run on the primary.
	AtLeast freshet.Revision

	// Caller names who calls. Where more writes wait than may have a connection,
	// callers have their turns. Those without a name are one.
	Caller string

	// BeforeCommit is called with the id of the mutation's transaction (all 64
	// bits of it), before COMMIT is sent; not for a transaction that wrote
	// nothing. A transaction that is tried again calls it again, with another id.
	// Nil: nobody is told.
	BeforeCommit func(xid uint64)

	// Audit has the call record which tables its reads look into, for Scanned, and
	// which its transactions write, for Written. A read then costs a transaction
	// and two statements more, a transaction one.
	Audit bool

	mu       sync.Mutex       // guards the fields below
	primary  bool             // something has run on the primary: the rest does, too
	lowest   freshet.Revision // of what replicas had replayed before its reads; zero: none has run on one
	highest  freshet.Revision // of the same: no later read is to see less
	outcomes []Outcome
	scanned  []string // sorted, distinct
	written  []string // the same
	blind    error    // why scanned and written are not known
}

// Outcome is the end of one transaction of InTx.
type Outcome struct {
	// Xid is the transaction's id, 64 bits; zero: it wrote nothing.
	Xid uint64

	// Position is a position of the WAL that was reached after the end of the
	// transaction: what it wrote, and what it saw, is at or below. Its epoch is the
	// transaction's, its position zero for a COMMIT whose answer was lost, and the
	// position with it.
	Position freshet.Revision

	// Committed says that COMMIT succeeded, also one with nothing to commit.
	Committed bool
}

type callKey struct{}

// WithCall returns a context that carries the call to the store. One call
// belongs to one RPC.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// callOf returns the call of the context; without one, one that nobody reads.
func callOf(ctx context.Context) *Call {
	if call, ok := ctx.Value(callKey{}).(*Call); ok && call != nil {
		return call
	}
	return new(Call)
}

// Outcomes lists how the call's transactions ended, oldest first. An attempt
// that was rolled back and tried again is in it too. A transaction whose
// connection broke before COMMIT has left none.
func (c *Call) Outcomes() []Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.outcomes)
}

// Scanned lists the tables that the call's reads looked into, as `schema.table`,
// sorted; a partition counts as its root. It is filled for Audit only. The error
// says that Postgres can't tell.
func (c *Call) Scanned() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.scanned), c.blind
}

// Written lists the tables that the call's transactions wrote, before they
// committed or failed to; otherwise it is as Scanned.
func (c *Call) Written() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.written), c.blind
}

// Reached is what the call's reads are sure to have seen, where that may be less
// than the frontier: the least position that a replica had replayed before one of
// them. Zero: all have run on the primary.
func (c *Call) Reached() freshet.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lowest
}

// needs is what a replica has to have replayed for the call's next read. Zero: that
// has to run on the primary. What a call reads later isn't to be older than what it
// has read before, and how far the primary was nobody knows.
func (c *Call) needs() freshet.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.primary || c.AtLeast.Epoch != c.Epoch {
		return freshet.Revision{}
	}
	return c.AtLeast.Max(c.highest)
}

// onPrimary says that something of the call runs there.
func (c *Call) onPrimary() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.primary = true
}

// onReplica says that a read of the call has run on a replica that had replayed this
// much before.
func (c *Call) onReplica(reached freshet.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lowest.IsZero() || reached.Less(c.lowest) {
		c.lowest = reached
	}
	c.highest = c.highest.Max(reached)
}

func (c *Call) ended(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes = append(c.outcomes, o)
}

// audited adds to one of the lists above, or says why nobody can.
func (c *Call) audited(list *[]string, table string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, found := slices.BinarySearch(*list, table); !found {
		*list = slices.Insert(*list, i, table)
	}
}

func (c *Call) blinded(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blind = why
}
