package doctest

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/adopt"
	"github.com/freshet-dev/freshet/internal/testkit"
)

const adoptConnect = "docs/adopt-connect.md"

// change is a file of docs/adopt-connect.md, before and after, and the lines that
// were added or changed for it: all that aren't empty.
type change struct {
	before, after string
	lines         int
}

// changesOf reads the diffs of a document that have all of a file.
func changesOf(t *testing.T, document string) map[string]change {
	t.Helper()
	changes := map[string]change{}
	for _, b := range blocksOf(t, document) {
		if b.language != "diff" {
			continue
		}
		var before, after strings.Builder
		lines := 0
		for line := range strings.Lines(b.text) {
			text := line[1:]
			switch line[0] {
			case ' ':
				before.WriteString(text)
				after.WriteString(text)
			case '-':
				before.WriteString(text)
			case '+':
				after.WriteString(text)
				if strings.TrimSpace(text) != "" {
					lines++
				}
			default:
				require.Fail(t, "neither kept, added nor taken away", "%s: %q", b.file, line)
			}
		}
		changes[b.file] = change{before.String(), after.String(), lines}
	}
	require.NotEmpty(t, changes)
	return changes
}

// To make an existing Connect service fresh takes a team at most 15 lines in Go and 5
// in TypeScript; and as many as the document says.
func TestAdopt_lines(t *testing.T) {
	said := map[string]int{}
	text := read(t, adoptConnect)
	for _, m := range regexp.MustCompile(`(?m)(\d+)\*?\*? ?(?:lines )?of (Go|TypeScript|options|configuration)\b`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.Contains(t, []int{0, n}, said[m[2]], "two figures of %s", m[2])
		said[m[2]] = n
	}
	counted := map[string]int{}
	for file, c := range changesOf(t, adoptConnect) {
		kind := map[string]string{".go": "Go", ".tsx": "TypeScript", ".proto": "options", ".yaml": "configuration"}[filepath.Ext(file)]
		require.NotEmpty(t, kind, file)
		counted[kind] += c.lines
	}
	require.Equal(t, counted, said)
	require.LessOrEqual(t, counted["Go"], 15)
	require.LessOrEqual(t, counted["TypeScript"], 5)
	require.Contains(t, text, fmt.Sprintf("## The proto: %d lines\n", counted["options"]))
}

// Before, it builds and serves without Freshet; after, it is live.
func TestAdopt_runs(t *testing.T) {
	changes := changesOf(t, adoptConnect)
	handlers := map[string]string{}
	for _, b := range blocksOf(t, "docs/library.md") {
		if b.file == "tasks/tasks.go" || b.file == "tasks.sql" {
			handlers[b.file] = b.text
		}
	}
	before, after := maps.Clone(handlers), maps.Clone(handlers)
	for file, c := range changes {
		before[file], after[file] = c.before, c.after
	}
	plain := moduleOf(t, before, false)
	golang(t, plain, "build", "-o", "bin/", ".")
	_, url, stop := begin(t, plain)
	require.Empty(t, answers(t, url).Get("Freshet-Revision"))
	stop()
	fresh := moduleOf(t, after, true)
	golang(t, fresh, "build", "-o", "bin/", ".")
	_, _, stop = isLive(t, fresh)
	stop()
}

// answers asks for tasks until a service that was just started answers, and returns
// the answer's headers.
func answers(t *testing.T, url string) (header http.Header) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Post(url+"/tasks.v1.TaskService/ListTasks", "application/json", strings.NewReader(`{"parent": "projects/7"}`))
		if err != nil {
			return false
		}
		header = resp.Header
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 30*time.Second, 10*time.Millisecond)
	return header
}

// `freshet adopt` proposes of the service as it was what the document has, to the letter.
func TestAdopt_proposes(t *testing.T) {
	const file = "tasks/v1/tasks.proto"
	proto := changesOf(t, adoptConnect)["proto/"+file]
	database := testkit.Database(t)
	for _, b := range blocksOf(t, "docs/library.md") {
		if b.file == "tasks.sql" {
			testkit.Exec(t, database, b.text)
		}
	}
	conn, err := pgx.Connect(testkit.Context(t), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(testkit.Context(t))) }()
	tables, err := adopt.Tables(testkit.Context(t), conn)
	require.NoError(t, err)
	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard,
		Resolver:       &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{file: proto.before})},
	}
	files, err := compiler.Compile(t.Context(), file)
	require.NoError(t, err)
	found := adopt.Propose([]protoreflect.FileDescriptor{files[0]}, tables)
	require.Zero(t, found.Open)
	after, err := adopt.Apply(files[0], proto.before, found.Proposals)
	require.NoError(t, err)
	require.Equal(t, proto.after, after)
}
