package setup

import "time"

// MendLock is the key of the lock by which those who mend something take turns.
const MendLock = mendLock

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

// SetMendPatience shortens the wait for a turn until the returned function is called.
func SetMendPatience(d time.Duration) func() {
	old := mendPatience
	mendPatience = d
	return func() { mendPatience = old }
}
