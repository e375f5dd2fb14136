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

	// BeforeCommit is called with the id of the mutation's transaction (all 64
	// bits of it), before COMMIT is sent; not for a transaction that wrote
	// nothing. A transaction that is tried again calls it again, with another id.
	// Nil: nobody is told.
	BeforeCommit func(xid uint64)

	mu       sync.Mutex // guards the fields below
	outcomes []Outcome
	scanned  []string // sorted, distinct
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
// sorted; a partition counts as its root. It is filled by Config.AuditReads
// only.
func (c *Call) Scanned() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.scanned)
}

func (c *Call) ended(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes = append(c.outcomes, o)
}

func (c *Call) looked(table string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, found := slices.BinarySearch(c.scanned, table); !found {
		c.scanned = slices.Insert(c.scanned, i, table)
	}
}
