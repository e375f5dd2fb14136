// Package web holds the page: a live message list that shows the stream at
// work. Vite builds it into embed/app; a build without it (a clean clone, no
// Node) serves a page that says how to get it, so that the program never
// depends on Node.
//
// It knows nothing of the server: the page talks to the RPCs and the stream of
// the origin it is served from.
package web

import (
	"embed"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// all: because Vite may name a chunk with a leading underscore, which go:embed
// leaves out otherwise.
//
//go:embed all:embed
var embedded embed.FS

// index is the page itself.
const index = "index.html"

// contentSecurityPolicy lets the page run its own files and talk to its own
// origin, nothing else. There are no inline scripts or styles.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at / and its files below, compressed for whoever
// takes that. Every response carries the security headers. signIn is the path
// below which the page can sign its user in; empty: it can't, and shows nothing of
// the kind. It is safe for concurrent use.
func Handler(signIn string) http.Handler {
	app, err := fs.Sub(embedded, "embed/app")
	if err != nil {
		panic(err) // the path is a constant
	}
	h, err := newHandler(app, signIn)
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return h
}

// newHandler reads all files of app once. One that isn't there: the page is not
// built.
func newHandler(app fs.FS, signIn string) (http.Handler, error) {
	files, err := readFiles(app)
	if err != nil {
		return nil, err
	}
	if page := files[index]; page != nil && signIn != "" {
		files[index] = page.with(`<meta name="freshet-sign-in" content="` + html.EscapeString(signIn) + `">`)
	}
	return &handler{files: files}, nil
}

type handler struct {
	files map[string]*file // by path; read-only
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
	if name == "" {
		name = index
	}
	// There is no fallback to the page for unknown paths: a missing file, and a
	// mistyped RPC, must not answer 200.
	switch f, ok := h.files[name]; {
	case ok:
		f.serve(w, r)
	case name == index:
		header.Set("Cache-Control", "no-cache")
		header.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(notBuilt))
	default:
		http.NotFound(w, r)
	}
}

const notBuilt = `Freshet is running, but this program was built without its page.

    make run      builds the page and the program, and serves both (needs Node.js 20 or later)

RPC and stream work without it:

    curl -N 'http://HOST:PORT/events?topic=messages'
    curl -H 'Content-Type: application/json' -d '{"parent":"conversations/-"}' \
        http://HOST:PORT/messages.v1.MessageService/ListMessages
`
