package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// stream asks for a stream.
func stream(query string, header ...string) func(*arena) string {
	return func(a *arena) string { return a.send(0, http.MethodGet, "/events?"+query, "", header...) }
}

func streamOf(body string, header ...string) func(*arena) string {
	return func(a *arena) string {
		return a.send(0, http.MethodPost, "/events", body, append([]string{"Content-Type", "application/json"}, header...)...)
	}
}

func topics(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&topic=hostile/%d", i)
	}
	return b.String()[1:]
}

var attacksOnStreams = []attack{
	{"a stream of nothing", stream(""), "400 invalid_argument"},
	{"a stream of 1,001 topics", stream(topics(1001)), "413 resource_exhausted"},
	{"a stream of a topic of 1 kB", stream("topic=" + strings.Repeat("x", 1000)), "400 invalid_argument"},
	{"a stream of frames in a topic", stream("topic=" + url.QueryEscape("a\n\nevent: reset\ndata: {}\n\n")), "400 invalid_argument"},
	{"a stream of NUL", stream("topic=%00"), "400 invalid_argument"},
	{"a stream of 100,000 parameters", streamOf(`{"topics":[` + strings.Repeat(`"a",`, 100_000) + `"a"]}`), "413 resource_exhausted"},
	{"a stream's body of 5 MB", streamOf(`{"topics":["` + strings.Repeat("x", 5<<20) + `"]}`), "413 resource_exhausted"},
	{"a stream's body of 100,000 levels", streamOf(strings.Repeat("[", 100_000)), "400 invalid_argument"},
	{"a stream since junk", stream("topic=a&since=junk"), "400 invalid_argument"},
	{"a stream since an id of junk", stream("topic=a", "Last-Event-ID", "\xff\xfe"), "stream"},
	{"a stream since the end of time", stream("topic=a&since=ffffffff-ffffffffffffffff"), "stream"},
	{"a stream by form", streamOf("topics=a", "Content-Type", "application/x-www-form-urlencoded"), "415 invalid_argument"},
	{"a stream by DELETE", func(a *arena) string { return a.send(0, http.MethodDelete, "/events?topic=a", "") }, "405 invalid_argument"},
	{"500 streams, of which 400 may be", crowd, "199 × 200, 301 × 429 later"},
	{"500 streams that vanish at once", vanishing, "gone"},
	{"a stream that says more", talkative, "nothing"},
	{"a stream that isn't read", deaf, "written on"},
	{"100 streams on one HTTP/2 connection", flood(func(f *framer) {
		for n := range 100 {
			block := f.encode(":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/events?topic=messages")
			f.headers(uint32(2*n+1), block) //nolint:gosec // small
		}
	}), "borne, or cut"},
}

// crowd opens more streams than there may be, and counts what it gets.
func crowd(a *arena) string {
	kinds := map[string]int{}
	for range 500 {
		conn, done := a.dial()
		defer done()
		_, err := io.WriteString(conn, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err != nil {
			kinds[cutOr(err)]++
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			kinds[cutOr(err)]++
			continue
		}
		kind := fmt.Sprint(resp.StatusCode)
		if after := resp.Header.Get("Retry-After"); after != "" {
			kind += " later"
		}
		kinds[kind]++
	}
	return summary(kinds)
}

// vanishing opens streams and resets the connections.
func vanishing(a *arena) string {
	for range 500 {
		conn, done := a.dial()
		_, err := io.WriteString(conn, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			_ = tcp.SetLinger(0) // a reset
		}
		done()
	}
	return "gone"
}

// talkative sends on, on a connection that carries a stream.
func talkative(a *arena) string {
	conn, done := a.dial()
	defer done()
	if _, err := io.WriteString(conn, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return cutOr(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		return cutOr(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return cutOr(err)
	}
	junk := strings.Repeat("x", 1<<16)
	for range 1000 {
		if _, err := io.WriteString(conn, junk); err != nil {
			return cutOr(err)
		}
	}
	return "read on"
}

// deaf opens a stream that it never reads, while others write.
func deaf(a *arena) string {
	conn, done := a.dial()
	defer done()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096) // the system's own is as good, later
	}
	var query strings.Builder
	for n := range 400 {
		fmt.Fprintf(&query, "&topic=conversations/deaf-%d-%s/messages", n, strings.Repeat("x", 40))
	}
	if _, err := io.WriteString(conn, "GET /events?throttle=0"+query.String()+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return cutOr(err)
	}
	for n := range 400 {
		got := a.call(1, http.MethodPost, "CreateMessage", fmt.Sprintf(`{"parent":"conversations/deaf-%d-%s","message":{"author":"a","body":"b"}}`, n, strings.Repeat("x", 40)))
		if got != "200" {
			return got
		}
	}
	return "written on"
}
