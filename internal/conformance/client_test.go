package conformance_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/conformance"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// goClient is the command that starts the Go client's adapter.
func goClient() []string { return []string{"env", asAdapter + "=1", os.Args[0]} }

// TestClient_go: the Go client passes all cases.
func TestClient_go(t *testing.T) {
	report, err := conformance.Client(testkit.Context(t), conformance.ClientConfig{Command: goClient(), Patience: 20 * time.Second})
	require.NoError(t, err)
	requirePassed(t, report)
}

// TestClient_byURL: an adapter may be a server.
func TestClient_byURL(t *testing.T) {
	var mu sync.Mutex // guards sessions
	sessions := map[string]*io.PipeWriter{}
	adapter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("session")
		if r.Method == http.MethodPost {
			mu.Lock()
			commands := sessions[name]
			mu.Unlock()
			_, _ = io.Copy(commands, r.Body) // the session may be over
			return
		}
		commands, in := io.Pipe()
		mu.Lock()
		sessions[name] = in
		mu.Unlock()
		_ = http.NewResponseController(w).Flush()
		defer context.AfterFunc(r.Context(), func() { _ = in.Close() })()
		_ = runGoAdapter(r.Context(), commands, flushed{w})
	}))
	defer adapter.Close()
	report, err := conformance.Client(testkit.Context(t), conformance.ClientConfig{URL: adapter.URL, Only: []string{"topics", "own-write", "resume"}, Patience: 20 * time.Second})
	require.NoError(t, err)
	requirePassed(t, report)
	_, err = conformance.Client(testkit.Context(t), conformance.ClientConfig{URL: adapter.URL, Command: goClient()})
	require.ErrorContains(t, err, "one is needed")
}

// flushed sends each line as it is written.
type flushed struct{ http.ResponseWriter }

func (w flushed) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(w.ResponseWriter).Flush())
}

var wholeMatrix = flag.Bool("matrix", false, "judge each broken client by all cases, not by three of them")

// TestClient_faults: the judge is judged. The Go client passes; with a sentence of the
// protocol broken it fails the case of that sentence, and no other. Each case takes a
// process, so that as a rule each is judged by its own case and two others.
func TestClient_faults(t *testing.T) {
	cases := conformance.ClientCases()
	var names []string
	for _, c := range cases {
		require.Contains(t, clientFaults, c.Name, "a case that no client is known to fail")
		names = append(names, c.Name)
	}
	require.Len(t, clientFaults, len(cases)+1)
	each(t, slices.Sorted(maps.Keys(clientFaults)), func(name string) (*conformance.Report, error) {
		var only []string
		if at := slices.Index(names, name); at >= 0 && !*wholeMatrix {
			only = []string{name, names[(at+1)%len(names)], names[(at+7)%len(names)]}
		}
		return exactly(name, func(patience time.Duration) (*conformance.Report, error) {
			return conformance.Client(t.Context(), conformance.ClientConfig{Command: goClient(), Patience: 2 * patience, Only: only}.With(clientFaults[name]))
		})
	})
}

// TestClient_python: one that was written from docs/protocol.md alone passes them, too. What
// is refused for its spelling it says, and doesn't take for fresh.
func TestClient_python(t *testing.T) {
	var said atomic.Bool
	report, err := conformance.Client(testkit.Context(t), conformance.ClientConfig{
		Command: []string{"python3", "../../examples/python/conformance.py"}, Patience: 20 * time.Second,
	}.With(conformance.ClientFault{Reports: func(query string, shown *string, stale *bool) bool {
		if query == "08" && *shown == "invalid_argument" && *stale {
			said.Store(true)
		}
		return true
	}}))
	require.NoError(t, err)
	requirePassed(t, report)
	require.True(t, said.Load())
}
