// Package archtest holds the import rules of docs/architecture.md as a test: who may
// import whom, and which package alone may touch which library.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/freshet-dev/freshet"

// tiers names the tier of a package by its path below the module; the longest
// prefix that ends at a slash wins. A package that no line names fails the
// test, so that a new one is placed on purpose.
var tiers = map[string]int{
	"":                  0,
	"gen":               0,
	"internal/oneline":  0,
	"internal/seldom":   1,
	"internal/service":  1,
	"internal/follow":   1,
	"internal/lru":      1,
	"internal/mono":     1,
	"internal/claims":   1,
	"internal/turns":    1,
	"internal/primary":  1,
	"internal/badnet":   1,
	"internal/inflate":  1,
	"internal/scratch":  1,
	"internal/freeport": 1,
	"internal/share":    1,
	"internal/rule":     1,
	"contract":          1,
	"internal/adopt":    2,
	"store":             2,
	"server/causes":     2,
	"server/grants":     2,
	"server/heat":       2,
	"server/hub":        2,
	"server/reuse":      2,
	"client":            2,
	"store/wal":         3,
	"store/setup":       3,
	"store/pgembed":     3,
	"server/stream":     4,
	"server/intercept":  4,
	"server/relay":      4,
	"server":            5,
	"server/auth":       5,
	"web":               5,
	"check":             6,
	"bench":             6,
	"server/messages":   7,
	"cmd":               7,

	"internal/claimtext":   0,
	"internal/presence":    0,
	"internal/conformance": 6,
	"internal/front":       7,
	"internal/scaffold":    7,
	"internal/testkit":     testOnly,
	"internal/systemtest":  testOnly,
	"internal/archtest":    testOnly,
	"internal/doctest":     testOnly,
}

// testOnly packages may import everything and be imported by tests alone.
const testOnly = 99

// fences: a library, and the only packages (with what is below them, unless they
// end in "/.") that may import it outside of tests.
var fences = []struct {
	library string
	within  []string
}{
	{"github.com/r3labs/sse", []string{"client"}},
	{"cel.dev/cel-go", []string{"server/grants"}},
	{"go.yaml.in/yaml", []string{"server/grants", "cmd/freshet"}},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd/freshet"}},
	{"go.opentelemetry.io/otel/exporters", []string{"cmd/freshet"}},
	{"go.opentelemetry.io/otel", []string{"server/intercept", "server/.", "cmd/freshet"}},
	{"connectrpc.com/otelconnect", []string{"server/intercept"}},
	{"github.com/jackc/pglogrepl", []string{"store/wal"}},
	{"github.com/nats-io", []string{"server/relay"}},
	{"github.com/jackc/pgx/v5/pgproto3", []string{"store/wal"}},
	{"github.com/jackc/pgx", []string{"store", "gen/freshetdb", "gen/messagesdb", "server/messages", "check", "bench", "internal/primary", "internal/testkit", "internal/adopt", "internal/scaffold", "cmd/freshet", "server/."}},
}

// blind: packages that must not know of others, beyond what tiers say.
var blind = map[string][]string{
	// The client is what others have: it never sees the server's side.
	"client": {"store", "server"},
	// Black boxes: the public API, the client rule, and bad networks on the way.
	"check":                {"store", "server", "contract", "gen/messages", "gen/messagesdb", "internal/service"},
	"internal/conformance": {"client", "contract", "gen", "server", "store"},
	"bench":                {"store", "server", "contract", "internal"},
	// Nothing of the machinery knows of messages. (The service itself is a guest,
	// which its tier keeps out.)
	"store":            {"gen/messages", "gen/messagesdb", "server"},
	"store/setup":      {"store/wal"},
	"store/pgembed":    {"server", "gen"},
	"server/grants":    {"gen", "store"},
	"server/causes":    {"gen", "store", "contract"},
	"server/heat":      {"gen", "store", "contract"},
	"server/hub":       {"gen", "store", "contract"},
	"server/stream":    {"gen/messages", "gen/messagesdb"},
	"server/intercept": {"gen/messages", "gen/messagesdb"},
	"server/reuse":     {"gen/messages", "gen/messagesdb", "store"},
	"server/relay":     {"gen/messages", "gen/messagesdb", "gen/freshetdb"},
	"server":           {"server/messages"},
	"contract":         {"gen/messages", "gen/messagesdb"},
}

// siblings: the imports within a tier that are meant.
var siblings = map[string]string{
	// The feed looks with doctor's own eyes, before it starts and while it runs.
	"store/wal": "store/setup",
	// It wraps the feed: what goes in by one node's comes out of the others'.
	"server/relay": "store/wal",
}

// Package is what `go list -json` says of a package.
type Package struct {
	ImportPath string
	Imports    []string
	// TestGoFiles are not looked at: tests may use every package.
}

func TestImports(t *testing.T) {
	packages := list(t)
	require.NotEmpty(t, packages)
	require.Empty(t, Violations(packages))
	for _, name := range named() {
		require.True(t, slices.ContainsFunc(packages, func(p Package) bool {
			path, _ := local(p.ImportPath)
			return name == "" || under(path, name)
		}), "no package is in %q, which a rule names", name)
	}
}

// named lists the packages that the rules name.
func named() (names []string) {
	names = slices.AppendSeq(names, maps.Keys(tiers))
	for _, fence := range fences {
		for _, room := range fence.within {
			names = append(names, strings.TrimSuffix(room, "/."))
		}
	}
	for who, whom := range blind {
		names = append(append(names, who), whom...)
	}
	for who, whom := range siblings {
		names = append(names, who, whom)
	}
	return names
}

// list asks the go command for the module's packages, without their tests.
func list(t *testing.T) []Package {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", module+"/...")
	cmd.Dir = "../.."
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []Package
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p Package
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// Violations returns every import that breaks a rule, in words.
func Violations(packages []Package) []string {
	var found []string
	for _, p := range packages {
		from, _ := local(p.ImportPath)
		tier, ok := tierOf(from)
		if !ok {
			found = append(found, fmt.Sprintf("%q has no tier: place it in archtest", from))
			continue
		}
		for _, path := range p.Imports {
			if reason := violation(from, tier, path); reason != "" {
				found = append(found, fmt.Sprintf("%q imports %q: %s", from, path, reason))
			}
		}
	}
	slices.Sort(found)
	return found
}

func violation(from string, tier int, path string) string {
	to, ours := local(path)
	if !ours {
		return fenced(from, tier, path)
	}
	for at, hidden := range blind {
		if under(from, at) && slices.ContainsFunc(hidden, func(h string) bool { return under(to, h) && !under(to, at) }) {
			return "it must not know of it"
		}
	}
	target, ok := tierOf(to)
	switch {
	case !ok || tier == testOnly || siblings[from] == to:
		return ""
	case target == testOnly:
		return "only tests may"
	case target > tier:
		return fmt.Sprintf("tier %d may not import tier %d", tier, target)
	case tier == 0 && from == "":
		return "the root imports the standard library only"
	case tier == 3 && target == 2:
		return "tier 3 may import tiers 0 and 1"
	case tier == 4 && target == 3:
		return "tier 4 may import tiers 0 to 2"
	case target == tier && tier > 0 && tier < 5 && unit(from) != unit(to):
		return fmt.Sprintf("siblings of tier %d may not import each other", tier)
	}
	return ""
}

// fenced judges an import from outside of the module.
func fenced(from string, tier int, path string) string {
	first, _, _ := strings.Cut(path, "/")
	if from == "" && strings.Contains(first, ".") {
		return "the root imports the standard library only"
	}
	if tier == testOnly {
		return ""
	}
	for _, fence := range fences {
		if !under(path, fence.library) {
			continue
		}
		if !slices.ContainsFunc(fence.within, func(w string) bool { return under(from, w) || w == from+"/." }) {
			return "only " + strings.Join(fence.within, ", ") + " may"
		}
		return "" // the first, narrowest fence decides
	}
	return ""
}

// local returns a package's path below the module.
func local(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// under reports whether path is root or below it.
func under(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// unit is the entry of tiers that a package belongs to; packages of one unit
// may import each other.
func unit(path string) string {
	best := ""
	for at := range tiers {
		if at != "" && under(path, at) && len(at) > len(best) {
			best = at
		}
	}
	return best
}

func tierOf(path string) (int, bool) {
	if path == "" {
		return 0, true
	}
	at := unit(path)
	tier, ok := tiers[at]
	return tier, ok && at != ""
}

func TestViolations(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{"server/hub", module, ""},
		{"server", module + "/store/wal", ""},
		{"store", module + "/contract", ""},
		{"store/wal", module + "/gen/freshetdb", ""},
		{"gen/messagesdb", "github.com/jackc/pgx/v5", ""},
		{"store/wal", "github.com/jackc/pgx/v5/pgproto3", ""},
		{"store/wal/internal/x", module + "/store/wal", ""},
		{"internal/testkit", module + "/server", ""},
		{"server/hub", module + "/server", "tier 2 may not import tier 5"},
		{"server/stream", module + "/server/intercept", "siblings of tier 4"},
		{"server/intercept", module + "/server/reuse", ""},
		{"server/reuse", module + "/server/hub", "siblings of tier 2"},
		{"server/reuse", module + "/server/intercept", "tier 2 may not import tier 4"},
		{"server/stream", module + "/store/wal", "tier 4 may import"},
		{"store/wal", module + "/store", "tier 3 may import"},
		{"store/wal", module + "/store/setup", ""},
		{"store/setup", module + "/store/wal", "must not know"},
		{"store/pgembed", module + "/store/setup", "siblings of tier 3"},
		{"client", module + "/contract", ""},
		{"client", module + "/store", "must not know"},
		{"server/hub", module + "/gen/freshet/v1", "must not know"},
		{"server/intercept", module + "/gen/messages/v1", "must not know"},
		{"server", module + "/internal/testkit", "only tests"},
		{"server", "github.com/jackc/pgx/v5", ""}, // its Config says how to connect in pgx's terms
		{"server/stream", "github.com/jackc/pgx/v5", "only store"},
		{"store", "github.com/jackc/pgx/v5/pgproto3", "only store/wal"},
		{"server/stream", "github.com/r3labs/sse/v2", "only client"},
		{"", "github.com/google/uuid", "standard library only"},
		{"elsewhere", "fmt", "has no tier"},
	} {
		path := module
		if tt.from != "" {
			path += "/" + tt.from
		}
		found := Violations([]Package{{ImportPath: path, Imports: []string{tt.to}}})
		if tt.want == "" {
			require.Empty(t, found)
			continue
		}
		require.Len(t, found, 1, "%s → %s", tt.from, tt.to)
		require.Contains(t, found[0], tt.want)
	}
}
