package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var built = fstest.MapFS{
	"index.html":           {Data: []byte("<!doctype html><title>Freshet</title>")},
	"favicon.svg":          {Data: []byte("<svg/>")},
	"assets/index-1a2b.js": {Data: []byte("export {}")},
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
	h := newHandler(built)
	for _, test := range []struct {
		path, cache, kind string
		status            int
	}{
		{"/", "no-cache", "text/html; charset=utf-8", 200},
		{"/index.html", "no-cache", "text/html; charset=utf-8", 200},
		{"/favicon.svg", "no-cache", "image/svg+xml", 200},
		{"/assets/index-1a2b.js", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8", 200},
		{"/assets/", "", "text/plain; charset=utf-8", 404},
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
	h := newHandler(built)
	etag := get(t, h, "GET", "/").Header.Get("ETag")
	require.NotEmpty(t, etag)
	require.Equal(t, 304, get(t, h, "GET", "/", "If-None-Match", etag).StatusCode)
	require.Equal(t, 200, get(t, h, "GET", "/", "If-None-Match", `"other"`).StatusCode)
}

func TestHandler_readsOnly(t *testing.T) {
	res := get(t, newHandler(built), "POST", "/")
	require.Equal(t, 405, res.StatusCode)
	require.Equal(t, "GET, HEAD", res.Header.Get("Allow"))
}

func TestHandler_notBuilt(t *testing.T) {
	h := newHandler(fstest.MapFS{})
	res := get(t, h, "GET", "/")
	require.Equal(t, 200, res.StatusCode)
	body := make([]byte, 4096)
	n, _ := res.Body.Read(body)
	require.Contains(t, string(body[:n]), "make run")
	require.Equal(t, 404, get(t, h, "GET", "/assets/x.js").StatusCode)
}

// Whether or not the page is built here, the embedded one answers.
func TestHandler_embedded(t *testing.T) {
	require.Equal(t, 200, get(t, Handler(), "GET", "/").StatusCode)
}
