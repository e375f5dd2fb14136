package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// Of the whole: go test ./cmd/freshet -run drainIsSpread -v -drain.streams 2000 -drain.time 10s.
var (
	drainStreams = flag.Int("drain.streams", 300, "streams that are open when the server stops")
	drainTime    = flag.Duration("drain.time", 4*time.Second, "its --drain")
)

// openStream returns a stream that is live. Its end is the goodbye, if in order.
func openStream(ctx context.Context, addr string) (net.Conn, *bufio.Reader, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	if _, err := io.WriteString(conn, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReaderSize(conn, 512)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, nil, err
		}
		if strings.HasPrefix(line, "event: ready") {
			return conn, r, nil
		}
	}
}

// By SIGTERM streams end evenly over the second half of --drain, each with a retry of
// its own, while the port is closed and calls that are underway end. No call is cut
// that a balancer sent while it could: connections that are kept alive close with an
// answer.
func TestServe_drainIsSpread(t *testing.T) {
	streams, drain := *drainStreams, *drainTime
	database := testkit.Migrated(t)
	p := startProgram(t, "--drain="+drain.String(), "--max-streams-per-address=0", "--max-connections-per-address=0", "--database-url", database)
	addr := strings.TrimPrefix(p.url, "http://")
	ctx := testkit.Context(t)

	var reading sync.WaitGroup
	var mu sync.Mutex // guards what follows
	var ends []time.Time
	var retries []int
	halfGone := make(chan struct{})
	for range streams {
		conn, r, err := openStream(ctx, addr)
		require.NoError(t, err)
		reading.Go(func() {
			defer func() { _ = conn.Close() }()
			rest, err := io.ReadAll(r)
			mu.Lock()
			defer mu.Unlock()
			if ends = append(ends, time.Now()); len(ends) == streams/2 {
				close(halfGone)
			}
			_, said, _ := strings.Cut(string(rest), "retry: ")
			said, _, _ = strings.Cut(said, "\n")
			retry, _ := strconv.Atoi(said) // 0: not told
			if err == nil && strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") {
				retries = append(retries, retry)
			}
		})
	}

	call := func(client *http.Client, to string) (*http.Response, error) {
		body := fmt.Sprintf(`{"parent":"conversations/%s","message":{"author":"ada","body":"hello"}}`, to)
		resp, err := client.Post(p.url+"/messages.v1.MessageService/CreateMessage", "application/json", strings.NewReader(body)) //nolint:noctx // it ends with the server
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return resp, err
	}
	var calls sync.WaitGroup
	var answered, after, parted atomic.Int64
	var terminated, looksElsewhere atomic.Bool
	for range 4 {
		calls.Go(func() {
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			for !looksElsewhere.Load() {
				resp, err := call(&http.Client{Transport: transport}, "1")
				if !assert.NoError(t, err, "a call was cut") {
					return
				}
				if terminated.Load() {
					after.Add(1)
				}
				if resp.Close {
					parted.Add(1)
				}
				answered.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return answered.Load() > 20 }, 20*time.Second, time.Millisecond)

	began := time.Now()
	terminated.Store(true)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return after.Load() > 50 && parted.Load() > 20 }, drain/2, time.Millisecond, "served on, and connections close")
	looksElsewhere.Store(true)
	calls.Wait()
	// One that was sent in time and takes long.
	tx, err := testkit.Conn(t, database).Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "lock table messages in exclusive mode")
	require.NoError(t, err)
	long := make(chan error, 1)
	go func() {
		transport := new(http.Transport)
		defer transport.CloseIdleConnections()
		_, err := call(&http.Client{Transport: transport}, "2")
		long <- err
	}()
	require.Less(t, time.Since(began), drain/2, "the test is too slow to say anything")
	<-halfGone
	_, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the port is closed by now")
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-long, "a call that was underway")

	reading.Wait()
	<-p.done
	require.Zero(t, p.cmd.ProcessState.ExitCode(), p.log.String())
	require.NotContains(t, p.log.String(), "were cut")
	require.Len(t, retries, streams, "each ended in order, by a goodbye")

	slices.SortFunc(ends, time.Time.Compare)
	first, last := ends[0].Sub(began), ends[len(ends)-1].Sub(began)
	histogram := map[int]int{}
	for _, end := range ends {
		histogram[int(end.Sub(began)/(100*time.Millisecond))]++
	}
	var bars []int
	for i := int(first / (100 * time.Millisecond)); i <= int(last/(100*time.Millisecond)); i++ {
		bars = append(bars, histogram[i])
	}
	t.Logf("%d streams ended from %v to %v, per 100 ms %v; %d calls meanwhile", len(ends), first.Round(time.Millisecond), last.Round(time.Millisecond), bars, after.Load())
	half := drain / 2
	require.GreaterOrEqual(t, first, half-100*time.Millisecond, "none in the first half")
	require.Less(t, last, drain+time.Second)
	// One in ten milliseconds if there are few of them: then it takes less.
	over := min(half/10*9, time.Duration(streams)*10*time.Millisecond)
	require.Greater(t, last-first, over*8/10)
	// A window of a fifth of the time has a fifth of them, and on a busy machine not
	// twice that.
	window := over / 5
	for i, end := range ends {
		in := 0
		for _, other := range ends[i:] {
			if other.Sub(end) < window {
				in++
			}
		}
		require.Less(t, in, streams*2/5, "%v after SIGTERM", end.Sub(began))
	}
	slices.Sort(retries)
	require.GreaterOrEqual(t, retries[0], 1000)
	require.Greater(t, len(slices.Compact(slices.Clone(retries))), streams/4, "jittered")
}

// By SIGINT somebody waits: all streams end at once.
func TestServe_interruptEndsAtOnce(t *testing.T) {
	p := startProgram(t, "--drain=20s", "--database-url", testkit.Migrated(t))
	addr := strings.TrimPrefix(p.url, "http://")
	var streams sync.WaitGroup
	for range 200 {
		conn, r, err := openStream(testkit.Context(t), addr)
		require.NoError(t, err)
		streams.Go(func() {
			_, _ = io.Copy(io.Discard, r) // the end is what counts
			_ = conn.Close()
		})
	}
	began := time.Now()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	streams.Wait()
	require.Less(t, time.Since(began), time.Second)
	<-p.done
}
