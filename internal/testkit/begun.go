package testkit

import (
	"testing"

	"github.com/stretchr/testify/require"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// Begun reads a stream's messages until it is ready. What changes while it begins may be
// told before that, even to a client that named no revision: the end of a quarantine, a
// few milliseconds after a node's start, tells every topic.
func Begun(t testing.TB, next func() *freshetv1.WatchResponse) {
	t.Helper()
	for m := next(); m.GetReady() == nil; m = next() {
		require.NotNil(t, m.GetInvalidate(), "before ready: %v", m)
	}
}
