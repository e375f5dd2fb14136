package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// list is a read with a body or headers that nobody should send.
func list(body string, header ...string) func(*arena) string {
	return func(a *arena) string { return a.call(0, http.MethodPost, "ListMessages", body, header...) }
}

func create(body string, header ...string) func(*arena) string {
	return func(a *arena) string { return a.call(0, http.MethodPost, "CreateMessage", body, header...) }
}

func createOf(author, body string) func(*arena) string {
	return create(`{"parent":"conversations/7","message":{"author":"` + author + `","body":"` + body + `"}}`)
}

// query is a read by GET.
func query(text string) func(*arena) string {
	return func(a *arena) string { return a.send(0, http.MethodGet, listPath+"?"+text, "") }
}

const asProto = "application/proto"

var attacksOnRPC = []attack{
	{"JSON: nothing", list(``), "400 invalid_argument"},
	{"JSON: cut", list(`{"parent":`), "400 invalid_argument"},
	{"JSON: 100,000 levels", list(strings.Repeat(`{"x":`, 100_000)), "400 invalid_argument"},
	{"JSON: 100,000 lists", list(`{"parent":` + strings.Repeat(`[`, 100_000)), "400 invalid_argument"},
	{"JSON: an unknown field", list(`{"parent":"conversations/open","admin":true}`), "200"},
	{"JSON: a field twice", list(`{"parent":"conversations/open","parent":"conversations/other"}`), "400 invalid_argument"},
	{"JSON: a number beyond all", list(`{"parent":"conversations/open","pageSize":1e999}`), "400 invalid_argument"},
	{"JSON: a number of 1 MB", list(`{"parent":"conversations/open","pageSize":1` + strings.Repeat("0", 1<<20) + `}`), "400 invalid_argument"},
	{"JSON: half a surrogate", createOf("a", `\ud800`), "400 invalid_argument"},
	{"JSON: NUL", createOf("a", `\u0000`), "400 invalid_argument"},
	{"JSON: not UTF-8", createOf("a", "\xff\xfe"), "400 invalid_argument"},
	{"JSON: a Unicode name of the field", list(`{"\u0070arent":"conversations/open"}`), "200"},
	{"a message of 5 MB", createOf("a", strings.Repeat("x", 5<<20)), "429 resource_exhausted"},
	{"a field of 2 MB", createOf("a", strings.Repeat("x", 2<<20)), "400 invalid_argument"},
	{"gzip: 1 GB of zeros", list(bomb(1<<30), "Content-Encoding", "gzip"), "429 resource_exhausted"},
	{"gzip: junk", list("junk", "Content-Encoding", "gzip"), "400 invalid_argument"},
	{"gzip: cut", list(bomb(1 << 20)[:100], "Content-Encoding", "gzip"), "400 invalid_argument"},
	{"an unknown encoding", list(openList, "Content-Encoding", "br"), "501 unimplemented"},
	{"an unknown type", list(openList, "Content-Type", "text/xml"), "415"},
	{"a type of 10,000 parameters", list(openList, "Content-Type", "application/json"+strings.Repeat(";a=b", 10_000)), "415"},
	{"proto: junk", list("\xff\xff\xff\xff", "Content-Type", asProto), "400 invalid_argument"},
	{"proto: a length that lies", list("\x0a\xff\xff\xff\xff\x0fx", "Content-Type", asProto), "400 invalid_argument"},
	{"proto: 10,000 groups in each other", list(strings.Repeat("\x9b\x06", 10_000)+strings.Repeat("\x9c\x06", 10_000), "Content-Type", asProto), "400 invalid_argument"},
	{"proto: a million empty fields", list(strings.Repeat("\xfa\x01\x00", 1_000_000), "Content-Type", asProto), "400 invalid_argument"},
	{"proto: text that isn't UTF-8", list(string(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "conversations/\xff")), "Content-Type", asProto), "400 invalid_argument"},
	{"a field number of zero", list("\x00\x00", "Content-Type", asProto), "400 invalid_argument"},
	{"GET: no message", query("connect=v1&encoding=json"), "400 invalid_argument"},
	{"GET: bad base64", query("connect=v1&encoding=json&base64=1&message=%%%"), "400 invalid_argument"},
	{"GET: bad base64, escaped", query("connect=v1&encoding=json&base64=1&message=%25%25"), "400 invalid_argument"},
	{"GET: an unknown codec", query("connect=v1&encoding=yaml&message=x"), "415"},
	{"GET: a bomb", query("connect=v1&encoding=json&compression=gzip&base64=1&message=" + base64.RawURLEncoding.EncodeToString([]byte(bomb(32<<20)))), "429 resource_exhausted"},
	{"GET: 10,000 parameters", query("connect=v1&encoding=json&message=" + url.QueryEscape(openList) + strings.Repeat("&a=b", 10_000)), "415"},
	{"GET: a write", func(a *arena) string {
		return a.send(0, http.MethodGet, messagesPath+"CreateMessage?connect=v1&encoding=json&message="+url.QueryEscape(`{"parent":"conversations/7","message":{"author":"a","body":"b"}}`), "")
	}, "405"},
	{"PUT", func(a *arena) string { return a.call(0, http.MethodPut, "ListMessages", openList) }, "405"},
	{"an unknown procedure", func(a *arena) string { return a.call(0, http.MethodPost, "DropTables", "{}") }, "501 unimplemented"},
	{"an unknown service", func(a *arena) string {
		return a.send(0, http.MethodPost, "/pg.v1.Admin/Query", "{}", "Content-Type", "application/json")
	}, "501 unimplemented"},
	{"a timeout of words", list(openList, "Connect-Timeout-Ms", "soon"), "400 invalid_argument"},
	{"a timeout below zero", list(openList, "Connect-Timeout-Ms", "-1"), "400 invalid_argument"},
	{"a timeout of zero", list(openList, "Connect-Timeout-Ms", "0"), "504 deadline_exceeded"},
	{"a timeout of 300 years", list(openList, "Connect-Timeout-Ms", "9999999999"), "200"},
	{"a timeout of 20 digits", list(openList, "Connect-Timeout-Ms", "99999999999999999999"), "400 invalid_argument"},
	{"an unknown version of Connect", list(openList, "Connect-Protocol-Version", "99"), "400 invalid_argument"},
	{"at least junk", list(openList, "Freshet-At-Least", "junk"), "400 invalid_argument"},
	{"at least two revisions", list(openList, "Freshet-At-Least", "00000001-0000000000000001", "Freshet-At-Least", "00000001-0000000000000002"), "400 failed_precondition"},
	{"at least a list", list(openList, "Freshet-At-Least", "00000001-0000000000000001, 00000001-0000000000000002"), "400 failed_precondition"},
	{"at least something of another epoch", list(openList, "Freshet-At-Least", "00000001-0000000000000001"), "400 failed_precondition"},
	{"at least 64 kB", list(openList, "Freshet-At-Least", strings.Repeat("0", 60_000)), "400 invalid_argument"},
	{"at least what will never be, a hundred times at once", future100, "100 × 400 invalid_argument"},
	{"10,000 ETags", func(a *arena) string {
		return a.send(0, http.MethodGet, listPath+"?connect=v1&encoding=json&message="+url.QueryEscape(openList), "", "If-None-Match", strings.Repeat(`"a", `, 10_000)+`"b"`)
	}, "200"},
	{"SQL in a name", list(`{"parent":"conversations/x'; drop table messages; --"}`), "400 invalid_argument"},
	{"a wildcard in a name", list(`{"parent":"conversations/*"}`), "400 invalid_argument"},
	{"a name that climbs", list(`{"parent":"conversations/../admin"}`), "400 invalid_argument"},
	{"a name in other letters", list(`{"parent":"conversations/\u006fpen\u200b"}`), "400 invalid_argument"},
	{"a page of junk", list(`{"parent":"conversations/open","pageToken":"AAAA"}`), "400 invalid_argument"},
	{"a page of 64 kB", list(`{"parent":"conversations/open","pageToken":"` + strings.Repeat("A", 65_536) + `"}`), "400 invalid_argument"},
	{"pages below zero", list(`{"parent":"conversations/open","pageSize":-1}`), "400 invalid_argument"},
	{"pages of 2^31", list(`{"parent":"conversations/open","pageSize":2147483647}`), "400 invalid_argument"},
	{"a hundred calls that give up at once", hasty, "100 × gone"},
	{"reflection that asks without end", reflection, "grpc 0"},
}

// bomb is n zeros, compressed.
func bomb(n int64) string {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = io.CopyN(w, zeros{}, n)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.String()
}

// A message that is too large is not decompressed to its end, for which Connect by
// itself takes seconds of a CPU: neither of a service, nor where anybody may call.
func TestRun_bombsAreNotReadToTheirEnd(t *testing.T) {
	a := newArena(t)
	for _, path := range []string{listPath, "/grpc.health.v1.Health/Check"} {
		req, err := http.NewRequestWithContext(a.ctx, http.MethodPost, a.url+path, strings.NewReader(bomb(64<<20)))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		resp, err := a.http[0].Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
		require.Contains(t, string(body), "the rest isn't decompressed", path)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// many has a hundred at once do something, and returns what they all got.
func many(do func(n int) string) string {
	var all sync.WaitGroup
	got := make([]string, 100)
	for n := range got {
		all.Go(func() { got[n] = do(n) })
	}
	all.Wait()
	kinds := map[string]int{}
	for _, g := range got {
		kinds[g]++
	}
	return summary(kinds)
}

// summary is how often each came: `200 × 200, 300 × 429 later`.
func summary(kinds map[string]int) string {
	var all []string
	for kind, n := range kinds {
		all = append(all, fmt.Sprintf("%d × %s", n, kind))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// future100 asks for what is not there yet: revisions of this epoch, far ahead.
func future100(a *arena) string {
	w := wire{t: a.t, base: a.url, http: a.http[0]}
	rev := future(w.list("open").revision())
	return many(func(int) string {
		return a.call(0, http.MethodPost, "ListMessages", openList, "Freshet-At-Least", rev)
	})
}

// hasty calls, and hangs up before the answer.
func hasty(a *arena) string {
	return many(func(n int) string {
		ctx, cancel := context.WithTimeout(a.ctx, time.Duration(n)*100*time.Microsecond)
		defer cancel()
		b := *a
		b.ctx = ctx
		b.call(n%2, http.MethodPost, "ListMessages", fmt.Sprintf(`{"parent":"conversations/hasty-%d"}`, n)) // whatever it is
		return "gone"
	})
}

// frame is gRPC's, with a length of its own if that isn't zero.
func grpcFrame(flags byte, length uint32, message string) string {
	if length == 0 {
		length = uint32(len(message)) //nolint:gosec // small
	}
	return string(binary.BigEndian.AppendUint32([]byte{flags}, length)) + message
}

func grpcCall(body string, header ...string) func(*arena) string {
	return func(a *arena) string {
		return a.send(1, http.MethodPost, listPath, body, append([]string{"Content-Type", "application/grpc", "Te", "trailers"}, header...)...)
	}
}

// open is the request for conversations/open.
var open = string(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "conversations/open"))

var attacksOnGRPC = []attack{
	{"gRPC: a frame of 4 GB", grpcCall(grpcFrame(0, 1<<32-1, "x")), "grpc 8"},
	{"gRPC: a frame that is cut", grpcCall(grpcFrame(0, 100, "x")), "grpc 13"},
	{"gRPC: half a frame's head", grpcCall("\x00\x00"), "grpc 13"},
	{"gRPC: compressed by nothing", grpcCall(grpcFrame(1, 0, open)), "grpc 13"},
	{"gRPC: compressed by something unknown", grpcCall(grpcFrame(1, 0, open), "Grpc-Encoding", "snappy"), "grpc 12"},
	{"gRPC: a bomb", grpcCall(grpcFrame(1, 0, bomb(64<<20)), "Grpc-Encoding", "gzip"), "grpc 8"},
	{"gRPC: all flags", grpcCall(grpcFrame(0xff, 0, open)), "grpc 13"},
	{"gRPC: two messages", grpcCall(grpcFrame(0, 0, open) + grpcFrame(0, 0, open)), "grpc 12"},
	{"gRPC: no message", grpcCall(""), "grpc 12"},
	{"gRPC: a timeout of words", grpcCall(grpcFrame(0, 0, open), "Grpc-Timeout", "1Y"), "grpc 3"},
	{"gRPC: a timeout below zero", grpcCall(grpcFrame(0, 0, open), "Grpc-Timeout", "-1S"), "grpc 3"},
	{"gRPC: a timeout of 10^8 hours", grpcCall(grpcFrame(0, 0, open), "Grpc-Timeout", "99999999H"), "grpc 0"},
	{"gRPC: bad base64 in a -bin header", grpcCall(grpcFrame(0, 0, open), "X-Bin", "%%%"), "grpc 0"},
	{"gRPC-Web: a trailer as a request", func(a *arena) string {
		return a.send(0, http.MethodPost, listPath, grpcFrame(0x80, 0, "grpc-status: 0\r\n"), "Content-Type", "application/grpc-web")
	}, "grpc 12"},
	{"gRPC-Web: text", func(a *arena) string {
		return a.send(0, http.MethodPost, listPath, "AAAA", "Content-Type", "application/grpc-web-text")
	}, "415"},
	{"Watch: a thousand requests", func(a *arena) string {
		return a.send(1, http.MethodPost, "/freshet.v1.InvalidationService/Watch", strings.Repeat(grpcFrame(0, 0, ""), 1000), "Content-Type", "application/grpc", "Te", "trailers")
	}, "grpc 12"},
}

// reflection sends one question after the other, and reads no answer.
func reflection(a *arena) string {
	question := string(protowire.AppendString(protowire.AppendTag(nil, 7, protowire.BytesType), "*"))
	return a.send(1, http.MethodPost, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		strings.Repeat(grpcFrame(0, 0, question), 20_000), "Content-Type", "application/grpc", "Te", "trailers")
}
