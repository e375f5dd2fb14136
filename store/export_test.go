package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// SetCommitTimeouts shortens how long InTx waits for the answer to COMMIT, and
// then for its fate.
func (d *DB) SetCommitTimeouts(commit, resolve time.Duration) {
	d.commitTimeout, d.resolveTimeout = commit, resolve
}

// SetAcquireTimeout shortens how long a call waits for a connection.
func (d *DB) SetAcquireTimeout(timeout time.Duration) { d.acquireTimeout = timeout }

// Refused reports whether a call has been refused for want of a privilege since Watch
// has looked into that.
func (d *DB) Refused() bool {
	d.health.mu.Lock()
	defer d.health.mu.Unlock()
	return d.health.refused
}

// Ask scans the value of a query on a connection of the pool.
func (d *DB) Ask(ctx context.Context, sql string, value any) error {
	// In one message: behind a pooler, the next may be another connection's.
	return d.pool.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(value)
}

// LookSeldom has nobody look at replicas but when a read finds fault. To be called before
// Watch.
func (d *DB) LookSeldom() { d.replicas.pause = time.Hour }

// LookNow has replicas looked at.
func (d *DB) LookNow() {
	for _, r := range d.replicas.all {
		r.suspect()
	}
}

// LookOften has replicas looked at all the time. To be called before Watch.
func (d *DB) LookOften() { d.replicas.pause = 10 * time.Millisecond }
