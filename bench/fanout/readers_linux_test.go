package fanout

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// site serves streams that tell a notice of now when asked.
type site struct {
	mu    sync.Mutex // guards conns
	conns []chan string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan string, 10)
	w.Header().Set("Connection", "close")
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	flush := http.NewResponseController(w).Flush
	for flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case frame, open := <-c:
			if _, err := io.WriteString(w, frame); err != nil || !open {
				return
			}
		}
	}
}

func (s *site) each(do func(chan string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		do(c)
	}
}

func TestServe_countsWhatReadersGet(t *testing.T) {
	s := new(site)
	server := httptest.NewServer(s)
	defer server.Close()
	in, commands := io.Pipe()
	reports, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(in, out) }()
	control := NewControl[Command, Report](commands, reports)
	do := func(c Command) Report {
		r, err := control.Do(c)
		require.NoError(t, err)
		require.Empty(t, r.Error)
		return r
	}

	const n = 100
	at := &Connect{Address: strings.TrimPrefix(server.URL, "http://"), Path: "/x", Number: n}
	require.Equal(t, n, do(Command{Connect: at}).Connections)
	stall := *at
	stall.Number = 1
	do(Command{Stall: &stall})
	do(Command{Reset: true})
	sent := time.Now()
	s.each(func(c chan string) {
		c <- fmt.Sprintf("id: 1\ndata: {\"revision\":\"00000001-%016x\",\"spread_ms\":0}\n\n", sent.UnixNano())
	})
	r := do(Command{Await: n, Within: 30 * time.Second})
	require.Equal(t, uint64(n), r.Notices)
	require.Equal(t, uint64(sent.UnixNano()), r.Position)
	require.GreaterOrEqual(t, r.LastAt, sent.UnixNano())
	require.LessOrEqual(t, r.P50, r.Max)
	require.Zero(t, do(Command{Reset: true}).Notices)

	// Nothing comes: the wait ends all the same.
	require.Zero(t, do(Command{Await: 1, Within: 10 * time.Millisecond}).Notices)

	s.each(func(c chan string) { close(c) })
	require.Eventually(t, func() bool { return do(Command{Report: true}).Closed == n }, 30*time.Second, time.Millisecond)
	require.NoError(t, commands.Close())
	require.NoError(t, <-ended)
}

func TestServe_refusesNonsense(t *testing.T) {
	require.Error(t, Serve(strings.NewReader("{"), io.Discard))
	var out strings.Builder
	require.NoError(t, Serve(strings.NewReader(`{"connect":{"address":"nowhere","number":1}}`), &out))
	require.Contains(t, out.String(), `"error"`)
}

func TestCostOf(t *testing.T) {
	before, err := CostOf(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, before.Memory)
	for deadline := time.Now().Add(time.Minute); ; {
		after, err := CostOf(os.Getpid())
		require.NoError(t, err)
		if after.CPU > before.CPU {
			break
		}
		require.True(t, time.Now().Before(deadline), "a busy loop uses no CPU time")
	}
	_, _, err = parseStat([]byte("1 (x) S"))
	require.ErrorIs(t, err, errForm)
	cpu, parent, err := parseStat([]byte("4711 (a) b) S 42 1 1 0 -1 0 1 2 0 0 250 50 10 24 20 0"))
	require.NoError(t, err)
	require.Equal(t, 42, parent)
	require.Equal(t, 3*time.Second, cpu)
	memory, err := parseRollup([]byte("55d0-7ff [rollup]\nRss:  900 kB\nPss:   12 kB\nPss_Dirty: 1 kB\n"))
	require.NoError(t, err)
	require.Equal(t, int64(12<<10), memory)
	_, err = parseRollup(nil)
	require.ErrorIs(t, err, errForm)
}
