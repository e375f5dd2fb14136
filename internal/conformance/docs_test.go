package conformance_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/conformance"
)

var update = flag.Bool("update", false, "write the cases into docs/conformance.md")

// Each case says where it comes from, in the protocol's own words.
func TestCases_areOfTheProtocol(t *testing.T) {
	raw, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	sections := map[string]string{}
	for section := range strings.SplitSeq("\n"+string(raw), "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(section, "\n# ") {
			title, text = "", section
		}
		sections[title] = strings.ReplaceAll(text, "\n", " ")
	}
	for _, cases := range [][]conformance.Case{conformance.ServerCases(), conformance.ClientCases()} {
		names := map[string]bool{}
		for _, c := range cases {
			require.False(t, names[c.Name], c.Name)
			names[c.Name] = true
			require.Contains(t, sections, c.Section, c.Name)
			require.Contains(t, sections[c.Section], c.Says, c.Name)
		}
	}
}

// TestDocs: docs/conformance.md has the cases that there are.
func TestDocs(t *testing.T) {
	const file = "../../docs/conformance.md"
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	text := string(raw)
	for kind, table := range map[string]string{
		"server": table(conformance.ServerCases()), "client": table(conformance.ClientCases()), "optional": optionalTable(conformance.OptionalCases()),
	} {
		before, rest, ok := strings.Cut(text, "<!-- "+kind+" cases: ")
		require.True(t, ok, kind)
		marker, rest, ok := strings.Cut(rest, "-->\n")
		require.True(t, ok, kind)
		_, after, ok := strings.Cut(rest, "<!-- end -->")
		require.True(t, ok, kind)
		text = before + "<!-- " + kind + " cases: " + marker + "-->\n" + table + "<!-- end -->" + after
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	require.Equal(t, text, string(raw), "run `go test ./internal/conformance -run TestDocs -update`")
}

func table(cases []conformance.Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| the %d cases | section | says |\n|---|---|---|\n", len(cases))
	for _, c := range cases {
		says := strings.ReplaceAll(c.Says, "|", `\|`)
		if !strings.Contains(says, "`") {
			says = "\"" + says + "\""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, cmp.Or(c.Section, "the beginning"), says)
	}
	return b.String()
}

func optionalTable(groups []conformance.Group) string {
	var b strings.Builder
	b.WriteString("| cases | need | `--skip` them if |\n|---|---|---|\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", g.Cases, g.Needs, g.Without)
	}
	return b.String()
}
