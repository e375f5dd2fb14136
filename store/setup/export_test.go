package setup

// TryReplication is how CheckSlot asks the server, whatever the role's attribute.
var TryReplication = tryReplication

// Encodings are those of a database that capture accepts.
var Encodings = encodings
