package freshet

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
}
