package doctest

import (
	"go/format"
	"testing"

	"github.com/stretchr/testify/require"
)

// The Go of the tutorial is formatted, since readers copy it. (That it builds and runs
// is what `make tutorial` looks at.)
func TestStart_goIsFormatted(t *testing.T) {
	found := false
	for _, b := range blocksOf(t, "docs/start.md") {
		if b.language == "go" {
			found = true
			formatted, err := format.Source([]byte(b.text))
			require.NoError(t, err, b.file)
			require.Equal(t, string(formatted), b.text, b.file)
		}
	}
	require.True(t, found)
}
