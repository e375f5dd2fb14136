package hub

import "github.com/freshet-dev/freshet"

// Conservative counts what subscribers were told without proof, by cause: that
// a topic "changed" which only may have, and resets. Each costs clients a
// refetch that may be needless. Counted when it is marked, so one that is
// merged with a real change before it is taken counts too.
type Conservative struct {
	// Topics told as changed.
	Horizon uint64 // asked since before the horizon, and not in the table
	Floor   uint64 // "all topics of this table" matched
	Gap     uint64 // the feed began anew in the same epoch
	// Subscriptions told to reset.
	Epoch uint64 // their data is of a history that has ended
	Since uint64 // their since was malformed, from the future or foreign
}

// because is why a position was found for a topic.
type because uint8

const (
	itChanged because = iota // exact
	ofHorizon                // the topic isn't in the table
	ofFloor                  // a pattern matches it
)

// told counts a catch-up.
func (c *Conservative) told(why because) {
	switch why {
	case ofHorizon:
		c.Horizon++
	case ofFloor:
		c.Floor++
	case itChanged:
	}
}

// foreign counts a subscription whose data can't be placed in epoch.
func (c *Conservative) foreign(since Since, from freshet.Revision, epoch freshet.Epoch) {
	if !since.Reset && from.Epoch < epoch {
		c.Epoch++
	} else {
		c.Since++
	}
}
