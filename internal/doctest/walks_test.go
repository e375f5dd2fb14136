package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The walks of docs/architecture.md name each file once, and only files that are
// there.
func TestArchitecture_walks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/architecture.md"))
	require.NoError(t, err)
	_, walks, found := strings.Cut(string(text), "## A commit, front to back")
	require.True(t, found)
	walks, _, found = strings.Cut(walks, "## Five ideas")
	require.True(t, found)
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`([a-z0-9_/-]+\\.(?:go|ts))`").FindAllStringSubmatch(walks, -1) {
		require.False(t, named[match[1]], "%s is named twice", match[1])
		named[match[1]] = true
		require.FileExists(t, filepath.Join(root, match[1]))
	}
	require.Greater(t, len(named), 40)
}
