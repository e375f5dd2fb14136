package setup

import "time"

// TryReplication is how CheckSlot asks the server, whatever the role's attribute.
var TryReplication = tryReplication

// Encodings are those of a database that capture accepts.
var Encodings = encodings

// SetMigrateLockTimeout shortens the lock timeout until the returned function
// is called.
func SetMigrateLockTimeout(d time.Duration) func() {
	old := migrateLockTimeout
	migrateLockTimeout = d
	return func() { migrateLockTimeout = old }
}
