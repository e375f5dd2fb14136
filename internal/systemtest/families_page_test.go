package systemtest_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
	"github.com/freshet-dev/freshet/internal/testkit/families"
)

var familyPage = flag.String("families.page", "", "a program for node, web/packages/query/test/families/client.ts, that is to show the places, too; empty: none")

// pageWatcher is one query of a page that node runs.
type pageWatcher struct {
	at   families.Place
	kind string

	mu      sync.Mutex    // guards all below
	row     *boardsv1.Row // nil: nothing, or it isn't fresh
	changed chan struct{} // closed at the next change
}

func (w *pageWatcher) place() families.Place { return w.at }

func (w *pageWatcher) String() string { return "the page, by " + w.kind + "," }

func (w *pageWatcher) show(row *boardsv1.Row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.row = row
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *pageWatcher) changes(ctx context.Context) func(yield func(*boardsv1.Row) bool) {
	return func(yield func(*boardsv1.Row) bool) {
		for {
			w.mu.Lock()
			row, changed := w.row, w.changed
			w.mu.Unlock()
			if !yield(row) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// openPage has one page that shows the places of all, until the test ends, if there is a
// program for it.
func openPage(t *testing.T, url string, all []*household) {
	t.Helper()
	if *familyPage == "" {
		return
	}
	type family struct {
		Service string            `json:"service"`
		Files   string            `json:"files"`
		Places  []json.RawMessage `json:"places"`
	}
	start := struct {
		URL      string   `json:"url"`
		Families []family `json:"families"`
	}{URL: url}
	kinds := []string{"a query of connect-query", "a query in pages", "a query of its own"}
	watchers := make([][]*pageWatcher, len(all))
	for i, h := range all {
		files, err := proto.Marshal(h.Files())
		require.NoError(t, err)
		f := family{Service: string(h.Service.FullName()), Files: base64.StdEncoding.EncodeToString(files)}
		for n, place := range h.Places[1:] {
			request, err := protojson.Marshal(place.Request())
			require.NoError(t, err)
			f.Places = append(f.Places, request)
			w := &pageWatcher{at: place, kind: kinds[n%len(kinds)], changed: make(chan struct{})}
			watchers[i] = append(watchers[i], w)
			h.clients = append(h.clients, w)
		}
		start.Families = append(start.Families, f)
	}
	cmd := exec.Command("node", *familyPage) //nolint:gosec,noctx // the tester's own; its input's end ends it
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- heedPage(bufio.NewScanner(out), watchers) }()
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, <-ended)
		require.NoError(t, cmd.Wait())
	})
	require.NoError(t, json.NewEncoder(in).Encode(start))
}

// heedPage reads what a page shows until it ends.
func heedPage(lines *bufio.Scanner, watchers [][]*pageWatcher) error {
	const longest = 1 << 24
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var shown struct {
			Family, Place int
			Row           json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &shown); err != nil {
			return fmt.Errorf("%w: %s", err, lines.Text())
		}
		var row *boardsv1.Row
		if string(shown.Row) != "null" {
			row = new(boardsv1.Row)
			if err := protojson.Unmarshal(shown.Row, row); err != nil {
				return fmt.Errorf("%w: %s", err, lines.Text())
			}
		}
		watchers[shown.Family][shown.Place].show(row)
	}
	return lines.Err()
}
