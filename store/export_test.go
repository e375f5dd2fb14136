package store

import "time"

// SetMigrateLockTimeout shortens the lock timeout until the returned function
// is called.
func SetMigrateLockTimeout(d time.Duration) func() {
	old := migrateLockTimeout
	migrateLockTimeout = d
	return func() { migrateLockTimeout = old }
}

// SetCommitTimeouts shortens how long InTx waits for the answer to COMMIT, and
// then for its fate.
func (d *DB) SetCommitTimeouts(commit, settle time.Duration) {
	d.commitTimeout, d.settleTimeout = commit, settle
}
