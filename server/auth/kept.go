package auth

import (
	"time"

	"github.com/freshet-dev/freshet/server/intercept"
)

// Tokens that were found to be good are kept: the signature of one costs more than
// the rest of a call. At 500 bytes a token some 13,000 of them.
const keptBytes = 32 << 20

// sizeOf is what a token that is kept costs in memory, about: what it says, not its
// text.
func sizeOf(token string) int { return 1<<10 + 3*len(token) }

// verified is what is known of a good token, until it expires or the keys are others
// than those that it was checked with.
type verified struct {
	principal intercept.Principal
	from      source
	set       *keySet
}

func (v *verified) isGood(now time.Time) bool {
	return now.Before(v.principal.Expires) && v.from.current() == v.set
}
