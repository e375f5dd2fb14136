// Package web holds the page: a live message list that shows the stream at
// work. Vite builds it into embed/app; a build without it (a clean clone, no
// Node) serves a page that says how to get it, so that the program never
// depends on Node.
//
// It knows nothing of the server: the page talks to the RPCs and the stream of
// the origin it is served from.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// all: because Vite may name a chunk with a leading underscore, which go:embed
// leaves out otherwise.
//
//go:embed all:embed
var embedded embed.FS

// contentSecurityPolicy lets the page run its own files and talk to its own
// origin, nothing else. There are no inline scripts or styles.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at / and its files below. Every response carries the
// security headers. It is safe for concurrent use.
func Handler() http.Handler {
	app, err := fs.Sub(embedded, "embed/app")
	if err != nil {
		panic(err) // the path is a constant
	}
	return newHandler(app)
}

func newHandler(app fs.FS) http.Handler {
	h := &handler{app: app}
	if index, err := fs.ReadFile(app, "index.html"); err == nil {
		h.index = index
	}
	return h
}

type handler struct {
	app   fs.FS
	index []byte // nil: the page is not built
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")

	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	switch {
	case name == "" || name == "index.html":
		h.serveIndex(w, r)
	case h.index == nil:
		http.NotFound(w, r)
	default:
		h.serveFile(w, r, name)
	}
}

// serveIndex serves the page itself, which names its files by their hashes: it
// must be asked for each time, and is cheap when it is the same.
func (h *handler) serveIndex(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-cache")
	if h.index == nil {
		header.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(notBuilt))
		return
	}
	sum := sha256.Sum256(h.index)
	header.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	header.Set("Content-Type", "text/html; charset=utf-8")
	http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(h.index))
}

// serveFile serves what the page refers to. There is no fallback to the page
// for unknown paths: a missing file, and a mistyped RPC, must not answer 200.
func (h *handler) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	content, err := fs.ReadFile(h.app, name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !isDir(h.app, name) {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	if strings.HasPrefix(name, "assets/") {
		// The name holds a hash of the content.
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		header.Set("Cache-Control", "no-cache")
	}
	// Not from the system's tables, which differ: a module must be JavaScript.
	if kind := contentType(name); kind != "" {
		header.Set("Content-Type", kind)
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

func isDir(fsys fs.FS, name string) bool {
	info, err := fs.Stat(fsys, name)
	return err == nil && info.IsDir()
}

func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

const notBuilt = `Freshet is running, but this program was built without its page.

    make run      builds the page and the program, and serves both (needs Node.js 20 or later)

RPC and stream work without it:

    curl -N 'http://HOST:PORT/events?topic=messages'
    curl -H 'Content-Type: application/json' -d '{"parent":"conversations/-"}' \
        http://HOST:PORT/messages.v1.MessageService/ListMessages
`
