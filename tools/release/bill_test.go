package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What runs is in the bills, by npm's own word, and nothing that only builds or tests
// it; two bills are the same bytes.
func TestBills(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	all := func() map[string][]byte {
		r := release{root: root, out: t.TempDir(), log: t.Output()}
		require.NoError(t, r.bills(t.Context(), "v1.2.3"))
		files, err := filepath.Glob(filepath.Join(r.out, "*"))
		require.NoError(t, err)
		texts := make(map[string][]byte)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			texts[filepath.Base(file)] = text
		}
		return texts
	}
	bills := all()
	require.Equal(t, bills, all())

	var query string
	for name := range bills {
		if strings.HasPrefix(name, "freshet-query-") {
			query = name
		}
	}
	components := func(file string) map[string]bool {
		var bill struct {
			BOMFormat    string
			SerialNumber string
			Metadata     struct {
				Timestamp string
				Component struct{ Name string }
			}
			Components []struct{ Purl, Version string }
		}
		require.NoError(t, json.Unmarshal(bills[file], &bill), file)
		require.Equal(t, "CycloneDX", bill.BOMFormat)
		require.Empty(t, bill.SerialNumber+bill.Metadata.Timestamp)
		require.NotEmpty(t, bill.Metadata.Component.Name)
		in := make(map[string]bool)
		for _, c := range bill.Components {
			require.NotEmpty(t, c.Version)
			in[c.Purl[:strings.LastIndexByte(c.Purl, '@')]] = true
		}
		return in
	}
	page := components("freshet_1.2.3_page.cdx.json")
	for _, name := range []string{"react", "react-dom", "scheduler", "%40bufbuild/protobuf", "%40connectrpc/connect-web", "%40tanstack/query-core", "%40freshet/query", "eventsource-parser"} {
		require.True(t, page["pkg:npm/"+name], "%s: %v", name, page)
	}
	for _, name := range []string{"vite", "vitest", "typescript", "happy-dom", "%40testing-library/react", "fast-check"} {
		require.False(t, page["pkg:npm/"+name], name)
	}
	require.Equal(t, map[string]bool{"pkg:npm/eventsource-parser": true}, components(query))
}
