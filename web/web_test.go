package web

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var built = fstest.MapFS{
	"index.html":           {Data: []byte("<!doctype html><title>Freshet</title>")},
	"favicon.svg":          {Data: []byte("<svg/>")},
	"assets/index-1a2b.js": {Data: []byte("export {}")},
	// The forms aren't really compressed: each is to be told from the others.
	"assets/index-1a2b.js.br": {Data: []byte("by brotli")},
	"assets/index-1a2b.js.gz": {Data: []byte("by gzip")},
}

func newTestHandler(t *testing.T, app fs.FS) http.Handler {
	t.Helper()
	h, err := newHandler(app, "")
	require.NoError(t, err)
	return h
}

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	h := newTestHandler(t, built)
	for _, test := range []struct {
		path, cache, kind string
		status            int
	}{
		{"/", "no-cache", "text/html; charset=utf-8", 200},
		{"/index.html", "no-cache", "text/html; charset=utf-8", 200},
		{"/favicon.svg", "no-cache", "image/svg+xml", 200},
		{"/assets/index-1a2b.js", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8", 200},
		{"/assets/", "", "text/plain; charset=utf-8", 404},
		{"/assets/index-1a2b.js.br", "", "text/plain; charset=utf-8", 404},
		{"/assets/gone.js", "", "text/plain; charset=utf-8", 404},
		{"/messages.v1.MessageService/NoSuchMethod", "", "text/plain; charset=utf-8", 404},
		{"/../web.go", "", "text/plain; charset=utf-8", 404},
	} {
		res := get(t, h, "GET", test.path)
		require.Equal(t, test.status, res.StatusCode, test.path)
		require.Equal(t, test.cache, res.Header.Get("Cache-Control"), test.path)
		require.Equal(t, test.kind, res.Header.Get("Content-Type"), test.path)
		require.Equal(t, contentSecurityPolicy, res.Header.Get("Content-Security-Policy"), test.path)
		require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"), test.path)
	}
}

func TestHandler_indexIsRevalidated(t *testing.T) {
	h := newTestHandler(t, built)
	etag := get(t, h, "GET", "/").Header.Get("ETag")
	require.NotEmpty(t, etag)
	require.Equal(t, 304, get(t, h, "GET", "/", "If-None-Match", etag).StatusCode)
	require.Equal(t, 200, get(t, h, "GET", "/", "If-None-Match", `"other"`).StatusCode)
}

// F73: half a megabyte of JavaScript went out as it is.
func TestHandler_F73_compressed(t *testing.T) {
	h := newTestHandler(t, built)
	for _, test := range []struct{ accept, encoding, body string }{
		{"", "", "export {}"},
		{"gzip, deflate, br, zstd", "br", "by brotli"},
		{"gzip", "gzip", "by gzip"},
		{"GZIP;Q=0.5", "gzip", "by gzip"},
		{"*", "br", "by brotli"},
		{"br;q=0, *;q=0.1", "gzip", "by gzip"},
		{"br;q=0.2, gzip;q=0.8", "gzip", "by gzip"},
		{"gzip;q=0.5, identity", "", "export {}"},
		{"gzip;q=0, br;q=0", "", "export {}"},
		{"br;q=nonsense", "", "export {}"},
		{"identity;q=0", "", "export {}"}, // there is no other form to give
	} {
		res := get(t, h, "GET", "/assets/index-1a2b.js", "Accept-Encoding", test.accept)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, test.body, string(body), test.accept)
		require.Equal(t, test.encoding, res.Header.Get("Content-Encoding"), test.accept)
		require.Equal(t, strconv.Itoa(len(body)), res.Header.Get("Content-Length"), test.accept)
		require.Equal(t, "Accept-Encoding", res.Header.Get("Vary"), test.accept)
		require.Equal(t, "text/javascript; charset=utf-8", res.Header.Get("Content-Type"), test.accept)
		require.Equal(t, "public, max-age=31536000, immutable", res.Header.Get("Cache-Control"), test.accept)
	}
	require.Empty(t, get(t, h, "GET", "/", "Accept-Encoding", "br").Header.Get("Content-Encoding"), "there is only one form")
}

// Two forms under one name are two representations: a cache that has one must
// not be told that it still holds for the other.
func TestHandler_F73_eachFormHasItsOwnETag(t *testing.T) {
	h := newTestHandler(t, built)
	const script = "/assets/index-1a2b.js"
	seen := make(map[string]bool)
	for _, accept := range []string{"identity", "gzip", "br"} {
		etag := get(t, h, "GET", script, "Accept-Encoding", accept).Header.Get("ETag")
		require.False(t, seen[etag], accept)
		seen[etag] = true
		require.Equal(t, 304, get(t, h, "GET", script, "Accept-Encoding", accept, "If-None-Match", etag).StatusCode)
	}
	etag := get(t, h, "GET", "/favicon.svg").Header.Get("ETag")
	require.Equal(t, 304, get(t, h, "GET", "/favicon.svg", "If-None-Match", etag).StatusCode)
}

func TestHandler_readsOnly(t *testing.T) {
	res := get(t, newTestHandler(t, built), "POST", "/")
	require.Equal(t, 405, res.StatusCode)
	require.Equal(t, "GET, HEAD", res.Header.Get("Allow"))
}

func TestHandler_notBuilt(t *testing.T) {
	h := newTestHandler(t, fstest.MapFS{})
	res := get(t, h, "GET", "/")
	require.Equal(t, 200, res.StatusCode)
	body := make([]byte, 4096)
	n, _ := res.Body.Read(body)
	require.Contains(t, string(body[:n]), "make run")
	require.Equal(t, 404, get(t, h, "GET", "/assets/x.js").StatusCode)
}

// Whether or not the page is built here, the embedded one answers, and what it
// serves compressed is what it serves plain. That a build compresses its scripts
// at all is for web/e2e, which has one.
func TestHandler_embedded(t *testing.T) {
	h := Handler("")
	res := get(t, h, "GET", "/")
	require.Equal(t, 200, res.StatusCode)
	page, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for _, script := range regexp.MustCompile(`/assets/[^"]+\.(?:js|css)`).FindAllString(string(page), -1) {
		want, err := io.ReadAll(get(t, h, "GET", script).Body)
		require.NoError(t, err)
		zipped := get(t, h, "GET", script, "Accept-Encoding", "gzip")
		if zipped.Header.Get("Content-Encoding") == "" {
			continue
		}
		unzip, err := gzip.NewReader(zipped.Body)
		require.NoError(t, err)
		got, err := io.ReadAll(unzip)
		require.NoError(t, err)
		require.Equal(t, want, got, script)
	}
}

// The page is told where to sign in by the page itself; all else stays.
func TestHandler_signIn(t *testing.T) {
	app := fstest.MapFS{
		"index.html":    {Data: []byte("<!doctype html><head><title>Freshet</title></head>")},
		"index.html.gz": {Data: []byte("another page, compressed")},
	}
	plain, err := newHandler(app, "")
	require.NoError(t, err)
	signIn, err := newHandler(app, "/demo/")
	require.NoError(t, err)
	read := func(h http.Handler) (string, http.Header) {
		res := get(t, h, "GET", "/", "Accept-Encoding", "gzip")
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(body), res.Header
	}
	body, header := read(signIn)
	require.Equal(t, `<!doctype html><head><title>Freshet</title><meta name="freshet-sign-in" content="/demo/"></head>`, body)
	require.Empty(t, header.Get("Content-Encoding"))
	without, other := read(plain)
	require.Equal(t, "another page, compressed", without)
	require.NotEqual(t, strings.TrimSuffix(other.Get("ETag"), `-gzip"`), strings.TrimSuffix(header.Get("ETag"), `"`))
	require.Equal(t, other.Get("Content-Security-Policy"), header.Get("Content-Security-Policy"))
}
