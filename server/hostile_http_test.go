package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const listPath = messagesPath + "ListMessages"

const openList = `{"parent":"conversations/open"}`

var attacksOnHTTP1 = []attack{
	{"nothing but line ends", h1(strings.Repeat("\r\n", 10_000)), "cut"},
	{"TLS to a port without", h1("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500)), "400"},
	{"a line without an end", h1(strings.Repeat("A", 1<<20)), "431"},
	{"silence", h1(""), "cut"},
	{"headers that don't end", h1("GET / HTTP/1.1\r\nHost: localhost\r\n"), "cut"},
	{"a method that isn't one", h1("G=T / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "400"},
	{"an unknown method", h1("BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "405"},
	{"TRACE", h1("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "405"},
	{"CONNECT", h1("CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n"), "421 permission_denied"},
	{"OPTIONS *", h1("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), "200"},
	{"HTTP/9.9", h1("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"), "505"},
	{"no Host", h1("GET / HTTP/1.1\r\n\r\n"), "400"},
	{"two Hosts", h1("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"), "400"},
	{"a foreign Host", h1("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"), "421 permission_denied"},
	{"a foreign target", h1("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), "421 permission_denied"},
	{"a path with NUL", h1(get("/%00")), "404"},
	{"a path that climbs", h1(get("/../../etc/passwd")), "307"},
	{"a path that climbs, escaped", h1(get("/%2e%2e/%2e%2e/etc/passwd")), "404"},
	{"a target of 1 MB", h1(get("/" + strings.Repeat("a", 1<<20))), "431"},
	{"a header of 1 MB", h1(get("/", "X: "+strings.Repeat("a", 1<<20))), "431"},
	{"100,000 headers", h1(get("/", strings.Split(strings.Repeat("X: y,", 100_000)+"X: y", ",")...)), "431"},
	{"a header with NUL", h1(get("/", "X: a\x00b")), "400"},
	{"a header's name with a space", h1(get("/", "X : y")), "400"},
	{"a folded header", h1(get("/", "X: y\r\n z")), "200"},
	{"Expect of something", h1(post(listPath, openList, "Expect: more")), "417"},
	{"an upgrade to HTTP/2", h1(get("/", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")), "200"},
	{"an upgrade to WebSocket", h1(get("/events", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")), "400 invalid_argument"},
	{"two lengths", h1(post(listPath, openList, "Content-Length: 30", "Content-Length: 31")), "400"},
	{"length and chunks", h1(post(listPath, "0\r\n\r\n", "Content-Length: 50", "Transfer-Encoding: chunked")), "400 invalid_argument"},
	{"a length below zero", h1(post(listPath, openList, "Content-Length: -1")), "400"},
	{"a length with a sign", h1(post(listPath, openList, "Content-Length: +30")), "400"},
	{"a length of 9 EB, then silence", h1(post(listPath, openList, "Content-Length: 9223372036854775807")), "504 deadline_exceeded"},
	{"a body that doesn't come", h1(post(listPath, `{"par`, "Content-Length: 30")), "504 deadline_exceeded"},
	{"an unknown transfer encoding", h1(post(listPath, openList, "Transfer-Encoding: xchunked")), "501"},
	{"chunked twice", h1(post(listPath, "0\r\n\r\n", "Transfer-Encoding: chunked, chunked")), "501"},
	{"a chunk of 2^64", h1(post(listPath, "FFFFFFFFFFFFFFFFF\r\nx", "Transfer-Encoding: chunked")), "400 invalid_argument"},
	{"a chunk's extension of 1 MB", h1(post(listPath, "1;"+strings.Repeat("x", 1<<20)+"\r\n{\r\n0\r\n\r\n", "Transfer-Encoding: chunked")), "400 invalid_argument"},
	{"100,000 chunks of one byte", h1(post(listPath, strings.Repeat("1\r\n \r\n", 100_000)+"0\r\n\r\n", "Transfer-Encoding: chunked")), "400 invalid_argument"},
	{"a thousand requests in one go", pipelined, "200 each"},
	{"answers that aren't read", unread, "cut"},
}

// pipelined sends a thousand requests before it reads.
func pipelined(a *arena) string {
	conn, done := a.dial()
	defer done()
	go func() {
		_, _ = io.WriteString(conn, strings.Repeat("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1000)) // the answers tell
	}()
	r := bufio.NewReader(conn)
	for n := range 1000 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Sprintf("%s after %d", cutOr(err), n)
		}
		if got := form(resp); got != "200" {
			return got
		}
	}
	return "200 each"
}

// unread asks for large answers, and reads none.
func unread(a *arena) string {
	body := strings.Repeat("x", 16_000)
	for range 64 {
		if got := a.call(0, http.MethodPost, "CreateMessage", `{"parent":"conversations/large","message":{"author":"a","body":"`+body+`"}}`); got != "200" {
			return got
		}
	}
	conn, done := a.dial()
	defer done()
	text := post(listPath, `{"parent":"conversations/large","pageSize":1000}`)
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return cutOr(err)
		}
	}
}

var attacksOnHTTP2 = []attack{
	{"HTTP/2: preface, then silence", flood(func(*framer) {}), "borne, or cut"},
	{"HTTP/2: half a preface", h1("PRI * HTTP/2.0\r\n\r\n"), "400"},
	{"HTTP/2: rapid reset", flood(func(f *framer) {
		for n := range 20_000 {
			f.request(uint32(2*n+1), false)
			f.check(f.WriteRSTStream(uint32(2*n+1), http2.ErrCodeCancel))
		}
	}), "borne, or cut"},
	{"HTTP/2: a flood of pings", flood(func(f *framer) {
		for range 100_000 {
			f.check(f.WritePing(false, [8]byte{}))
		}
	}), "borne, or cut"},
	{"HTTP/2: a flood of settings", flood(func(f *framer) {
		for range 100_000 {
			f.check(f.WriteSettings())
		}
	}), "borne, or cut"},
	{"HTTP/2: a flood of empty data", flood(func(f *framer) {
		f.request(1, false)
		for range 100_000 {
			f.check(f.WriteData(1, false, nil))
		}
	}), "borne, or cut"},
	{"HTTP/2: headers without an end", h2(func(f *framer) {
		f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields()}))
		for range 10_000 {
			f.check(f.WriteContinuation(1, false, f.encode("x", strings.Repeat("a", 1000))))
		}
	}), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: a header table as a bomb", h2(func(f *framer) {
		block := f.fields()
		block = append(block, f.encode("x", strings.Repeat("a", 4000))...)
		for range 10_000 {
			block = append(block, 0x80|62) // the newest of the dynamic table, again
		}
		f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}))
	}), "431"},
	{"HTTP/2: more streams than allowed", flood(func(f *framer) {
		for n := range 1500 { // their bodies don't come
			f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), EndHeaders: true, BlockFragment: f.encode( //nolint:gosec // small
				":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", listPath, "content-type", "application/json")}))
		}
	}), "borne, or cut"},
	{"HTTP/2: a window beyond 2^31", h2(func(f *framer) {
		f.check(f.WriteWindowUpdate(0, 1<<31-1))
	}), "goaway FLOW_CONTROL_ERROR"},
	{"HTTP/2: a window update of zero", h2(func(f *framer) {
		f.check(f.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 0}))
	}), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: data of no stream", h2(func(f *framer) {
		f.check(f.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")))
	}), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: an even stream", h2(func(f *framer) { f.request(2, true) }), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: a stream that comes again", h2(func(f *framer) { f.request(3, true); f.request(1, true) }), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: a frame of 16 MB", h2(func(f *framer) {
		_, err := f.out.Write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
		f.check(err)
	}), "goaway FRAME_SIZE_ERROR"},
	{"HTTP/2: unknown frames", flood(func(f *framer) {
		for range 10_000 {
			f.check(f.WriteRawFrame(0xfa, 0xff, 0, make([]byte, 1000)))
		}
		f.request(1, true)
	}), "borne, or cut"},
	{"HTTP/2: a name in upper case", h2(func(f *framer) { f.ask(1, "X-Upper", "y") }), "reset PROTOCOL_ERROR"},
	{"HTTP/2: Connection", h2(func(f *framer) { f.ask(1, "connection", "close") }), "400"},
	{"HTTP/2: no path", h2(func(f *framer) {
		f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(":method", "GET", ":scheme", "http"), EndHeaders: true, EndStream: true}))
	}), "reset PROTOCOL_ERROR"},
	{"HTTP/2: a line end in a header", h2(func(f *framer) { f.ask(1, "x", "a\r\nset-cookie: b") }), "reset PROTOCOL_ERROR"},
	{"HTTP/2: a push", h2(func(f *framer) {
		f.check(f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: f.fields(), EndHeaders: true}))
	}), "goaway PROTOCOL_ERROR"},
	{"HTTP/2: a stream depends on itself", h2(func(f *framer) {
		f.check(f.WritePriority(1, http2.PriorityParam{StreamDep: 1}))
	}), "reset PROTOCOL_ERROR"},
	{"HTTP/2: a window of zero", windowOfZero, "reset INTERNAL_ERROR"},
}

// windowOfZero asks for an answer that it doesn't let come.
func windowOfZero(a *arena) string {
	conn, done := a.dial()
	defer done()
	out := bufio.NewWriter(conn)
	f := &framer{Framer: http2.NewFramer(out, conn), out: out}
	f.encoder = hpack.NewEncoder(&f.block)
	_, err := io.WriteString(out, http2.ClientPreface)
	f.check(err)
	f.check(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: f.encode(
		":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/", "accept", "text/html")}))
	f.check(out.Flush())
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return cutOr(err)
		}
		if reset, ok := frame.(*http2.RSTStreamFrame); ok {
			return "reset " + reset.ErrCode.String()
		}
	}
}

// framer writes frames, and remembers whether the server still took them.
type framer struct {
	*http2.Framer
	out     io.Writer
	block   bytes.Buffer
	encoder *hpack.Encoder
	err     error
}

// check keeps the first error: the server has closed the connection.
func (f *framer) check(err error) {
	if f.err == nil {
		f.err = err
	}
}

// encode is a block of fields, name after value.
func (f *framer) encode(fields ...string) []byte {
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.check(f.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(f.block.Bytes())
}

func (f *framer) fields(more ...string) []byte {
	return f.encode(append([]string{":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/healthz"}, more...)...)
}

// headers sends a request that is complete.
func (f *framer) headers(stream uint32, block []byte) {
	f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true}))
}

// request sends a GET, whose end may be left open.
func (f *framer) request(stream uint32, end bool) {
	f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.fields(), EndHeaders: true, EndStream: end}))
}

func (f *framer) ask(stream uint32, header ...string) {
	f.check(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.fields(header...), EndHeaders: true, EndStream: true}))
}

// flood has a connection of HTTP/2 do something many times over, and asks whether
// what comes of it. How much of it a server puts up with is up to net/http, and to
// how fast it is read.
func flood(do func(*framer)) func(*arena) string {
	return func(a *arena) string {
		if got := a.frames(do, true); got != "answers" && got != "cut" && !strings.HasPrefix(got, "goaway") {
			return got
		}
		return "borne, or cut"
	}
}

// h2 has a connection do something, and returns what comes of stream 1: the answer's
// status, the stream's error or the connection's.
func h2(do func(*framer)) func(*arena) string {
	return func(a *arena) string { return a.frames(do, false) }
}

func (a *arena) frames(do func(*framer), ping bool) string {
	conn, done := a.dial()
	defer done()
	out := bufio.NewWriter(conn)
	f := &framer{Framer: http2.NewFramer(out, conn), out: out}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.encoder = hpack.NewEncoder(&f.block)
	told := make(chan string, 1)
	go func() { told <- verdict(f.Framer, ping) }()
	_, err := io.WriteString(out, http2.ClientPreface)
	f.check(err)
	f.check(f.WriteSettings())
	do(f)
	if ping {
		f.check(f.WritePing(false, [8]byte{'s', 't', 'i', 'l', 'l', '?'}))
	}
	f.check(out.Flush())
	return <-told
}

// verdict reads until the server says what it thinks: of stream 1, or to the ping
// at the end. Another stream's answer is no verdict: it may come before the server
// has read what is wrong, or after.
func verdict(f *http2.Framer, ping bool) string {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return cutOr(err)
		}
		judged := !ping && frame.Header().StreamID == 1
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			return "goaway " + frame.ErrCode.String()
		case *http2.RSTStreamFrame:
			if judged {
				return "reset " + frame.ErrCode.String()
			}
		case *http2.MetaHeadersFrame:
			if judged {
				return frame.PseudoValue("status")
			}
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data[0] == 's' {
				return "answers"
			}
		}
	}
}
