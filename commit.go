package freshet

import "time"

// Commit is one committed transaction, as the feed tells it: everything that
// it changed, in topics.
type Commit struct {
	// Revision is the commit's end position.
	Revision Revision
	// Topics changed, distinct, in no order.
	Topics []string
	// Floors are sets of topics that changed as a whole: after TRUNCATE, a
	// very large transaction, a table that capture lost sight of.
	Floors []Pattern
	// Changes say what made it tell Topics and Floors, where somebody asks why.
	// Otherwise, and where it isn't known, nil.
	Changes []Change
}

// Change says what made a commit tell a topic, or all topics that a pattern matches:
// for people, who ask why. It has nothing of a row but what the topic shows.
type Change struct {
	// One of the two is set.
	Topic   string
	Pattern Pattern
	// What was done to the first of the rows that changed it.
	What ChangeKind
	// Table of that row: schema.table. Empty: there is none.
	Table string
	// Rows of the commit that changed it; 0: they were not counted.
	Rows int
	// Revision is the end of the commit: at or below that of the Commit, which may be
	// several that are told together.
	Revision Revision
	// XID is the low 32 bits of the transaction's id, and Time when it was committed,
	// by the database's clock. Zero: not known.
	XID  uint32
	Time time.Time
}

// ChangeKind is what was done to a row, a table, or what is known of it.
type ChangeKind string

// The kinds. Those after Message say no more than "perhaps".
const (
	Inserted  ChangeKind = "insert"
	Updated   ChangeKind = "update"
	Deleted   ChangeKind = "delete"
	Truncated ChangeKind = "truncate"
	// Message: somebody told the topic by pg_logical_emit_message.
	Message ChangeKind = "message"
	// TooMany: the commit, or those told with it, have too many topics to name.
	TooMany ChangeKind = "too_many"
	// Unsure: for a while, capture couldn't be sure to see the table's changes.
	Unsure ChangeKind = "unsure"
	// Began: a node began to be told of changes; what came before isn't known.
	Began ChangeKind = "began"
	// Unknown is all else.
	Unknown ChangeKind = "unknown"
)
