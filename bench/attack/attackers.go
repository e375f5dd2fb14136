package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// target is what attackers are told.
type target struct{ URL, Good, Poor string }

// startAttackers starts them in a process of their own, until ctx ends; then told
// returns what they have done.
func (w *world) startAttackers(ctx context.Context) (told func() (string, error), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(target{w.url, w.good, w.poor})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir, "target.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", program, "--attackers="+file) //nolint:gosec // this one
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (string, error) {
		err := cmd.Wait()
		if exit := new(exec.ExitError); ctx.Err() != nil && !errors.As(err, &exit) {
			err = nil // it was told to stop
		}
		return out.String(), err
	}, nil
}

// attack is what that process does.
func attack(ctx context.Context, file string, to io.Writer) error {
	text, err := os.ReadFile(file) //nolint:gosec // our own
	if err != nil {
		return err
	}
	var at target
	if err := json.Unmarshal(text, &at); err != nil {
		return err
	}
	a := newAttackers(&world{url: at.URL, good: at.Good, poor: at.Poor})
	a.start(ctx)
	a.wait()
	_, err = fmt.Fprintln(to, a.told())
	return err
}

// attackers are one of each class, each with a rhythm of its own.
type attackers struct {
	w      *world
	addr   string
	client *http.Client
	all    sync.WaitGroup
	done   map[string]*atomic.Int64
}

// class is a way to do harm: once, every so often.
type class struct {
	name  string
	every time.Duration
	once  func(ctx context.Context, n int64)
}

func newAttackers(w *world) *attackers {
	// An address of their own on loopback, so that bounds per address tell them from
	// the others.
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 10 * time.Second}
	return &attackers{
		w: w, addr: strings.TrimPrefix(w.url, "http://"), done: map[string]*atomic.Int64{},
		client: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 50}, Timeout: 30 * time.Second},
	}
}

func (a *attackers) classes() []class {
	return []class{
		{"headers that don't end", 50 * time.Millisecond, a.hold("GET / HTTP/1.1\r\nHost: localhost\r\n")},
		{"bodies that don't come", 50 * time.Millisecond, a.hold("POST /messages.v1.MessageService/ListMessages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nAuthorization: Bearer " + a.w.poor + "\r\n\r\n")},
		{"streams that aren't read", 100 * time.Millisecond, a.hold("GET /events?topic=conversations/bench-0/messages&throttle=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + a.w.good + "\r\n\r\n")},
		{"streams that vanish", 20 * time.Millisecond, a.vanish},
		{"tokens that nobody has seen", 10 * time.Millisecond, func(_ context.Context, n int64) {
			part := strings.Split(a.w.good, ".")
			_, _ = a.w.call(a.client, "ListMessages", "{}", fmt.Sprintf("%s.%s.%086d", part[0], part[1], n)) // refused
		}},
		{"what a caller may not see", 10 * time.Millisecond, func(_ context.Context, n int64) {
			_, _ = a.w.call(a.client, "ListMessages", fmt.Sprintf(`{"parent":"conversations/bench-%d"}`, n%200), a.w.poor) // refused
		}},
		{"bombs", 200 * time.Millisecond, func(context.Context, int64) {
			_, _ = a.w.call(a.client, "ListMessages", bomb, a.w.good, "Content-Encoding", "gzip") // refused
		}},
		{"messages of 5 MB", 200 * time.Millisecond, func(context.Context, int64) {
			_, _ = a.w.call(a.client, "CreateMessage", large, a.w.good) // refused
		}},
		{"headers of 1 MB", 100 * time.Millisecond, a.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20))},
		{"rapid reset", 100 * time.Millisecond, a.rapidReset},
		{"pings", 100 * time.Millisecond, a.pings},
		{"JSON of 100,000 levels", 100 * time.Millisecond, func(context.Context, int64) {
			_, _ = a.w.call(a.client, "ListMessages", deep, a.w.good) // refused
		}},
	}
}

var (
	large = `{"parent":"conversations/a","message":{"author":"a","body":"` + strings.Repeat("x", 5<<20) + `"}}`
	deep  = strings.Repeat(`{"x":`, 100_000)
	bomb  = func() string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		for range 256 {
			_, _ = w.Write(make([]byte, 1<<20)) // a buffer takes everything
		}
		_ = w.Close()
		return b.String()
	}()
)

// start has them work until ctx ends.
func (a *attackers) start(ctx context.Context) {
	for _, c := range a.classes() {
		count := new(atomic.Int64)
		a.done[c.name] = count
		a.all.Go(func() {
			ticker := time.NewTicker(c.every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					c.once(ctx, count.Add(1))
				}
			}
		})
	}
}

func (a *attackers) wait() {
	a.all.Wait()
	a.client.CloseIdleConnections()
}

// told is how much each has done.
func (a *attackers) told() string {
	var all []string
	for name, count := range a.done {
		all = append(all, fmt.Sprintf("%d × %s", count.Load(), name))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func (a *attackers) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 10 * time.Second}
	return dialer.DialContext(ctx, "tcp", a.addr)
}

// hold sends text on a connection, and keeps it without reading until the server has
// enough of it.
func (a *attackers) hold(text string) func(ctx context.Context, n int64) {
	return func(ctx context.Context, _ int64) {
		conn, err := a.dial(ctx)
		if err != nil {
			return // turned away
		}
		a.all.Go(func() {
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, text)
			timer := time.NewTimer(30 * time.Second)
			defer timer.Stop()
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		})
	}
}

// send sends text, and hangs up.
func (a *attackers) send(text string) func(ctx context.Context, n int64) {
	return func(ctx context.Context, _ int64) {
		if conn, err := a.dial(ctx); err == nil {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

func (a *attackers) vanish(ctx context.Context, _ int64) {
	conn, err := a.dial(ctx)
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "GET /events?topic=conversations/bench-0/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+a.w.good+"\r\n\r\n")
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset
	}
	_ = conn.Close()
}

// frames has a connection of HTTP/2 do something, and reads until that is over.
func (a *attackers) frames(ctx context.Context, do func(*http2.Framer)) {
	conn, err := a.dial(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if conn.SetDeadline(time.Now().Add(5*time.Second)) != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // it ends with the connection
	f := http2.NewFramer(conn, nil)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = f.WriteSettings()
	do(f)
}

func (a *attackers) rapidReset(ctx context.Context, _ int64) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for name, value := range map[string]string{":method": "GET", ":scheme": "http", ":authority": "localhost", ":path": "/healthz"} {
		_ = e.WriteField(hpack.HeaderField{Name: name, Value: value}) // a buffer takes everything
	}
	first := b.Bytes()
	a.frames(ctx, func(f *http2.Framer) {
		for n := range uint32(200) {
			if f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: first, EndHeaders: true, EndStream: true}) != nil {
				return
			}
			_ = f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
			b.Reset()
			for _, name := range []string{":method", ":scheme", ":authority", ":path"} {
				value := map[string]string{":method": "GET", ":scheme": "http", ":authority": "localhost", ":path": "/healthz"}[name]
				_ = e.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
			first = b.Bytes()
		}
	})
}

func (a *attackers) pings(ctx context.Context, _ int64) {
	a.frames(ctx, func(f *http2.Framer) {
		for range 1000 {
			if f.WritePing(false, [8]byte{}) != nil {
				return
			}
		}
	})
}
