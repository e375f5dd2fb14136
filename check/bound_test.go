package check_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
)

// F86, G3: a client has its whole time, from the end of the writes, from when its stream
// began, or from when a new history was served, whichever is last; and while a failover
// goes on nobody is late. Who comes and goes all the time has four times as long.
func TestBound(t *testing.T) {
	const began, patience = 100 * time.Second, 10 * time.Second
	for name, c := range map[string]struct {
		since, begun time.Duration
		held         freshet.Epoch
		want         time.Duration
	}{
		"connected long ago":           {since: 5 * time.Second, begun: time.Second, held: 2, want: 110 * time.Second},
		"its stream began late":        {since: 108 * time.Second, begun: time.Second, held: 2, want: 118 * time.Second},
		"a history was served late":    {since: 5 * time.Second, begun: 115 * time.Second, held: 2, want: 125 * time.Second},
		"nobody serves what is held":   {since: 5 * time.Second, begun: time.Second, held: 3, want: 140 * time.Second},
		"it comes and goes, and again": {since: 139 * time.Second, begun: time.Second, held: 2, want: 140 * time.Second},
	} {
		require.Equal(t, c.want, check.ConvergeBy(began, patience, c.since, c.begun, 2, c.held), name)
	}
}
