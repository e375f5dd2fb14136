package conformance_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// front is what stands before a double and spoils what passes.
type front = func(http.Handler) http.Handler

// none leaves all as it is.
func none(next http.Handler) http.Handler { return next }

// about says which requests a front is for.
type about func(*http.Request) bool

func (a about) and(b about) about { return func(r *http.Request) bool { return a(r) && b(r) } }

func of(method, pathEnds string) about {
	return func(r *http.Request) bool { return r.Method == method && strings.HasSuffix(r.URL.Path, pathEnds) }
}

func content(kind string) about {
	return func(r *http.Request) bool { return r.Header.Get("Content-Type") == kind }
}

func hasHeader(name string, is bool) about {
	return func(r *http.Request) bool { return (r.Header[http.CanonicalHeaderKey(name)] != nil) == is }
}

func query(test func(url.Values) bool) about {
	return func(r *http.Request) bool { return test(r.URL.Query()) }
}

func hasParameter(name, value string) about {
	return query(func(q url.Values) bool { return q.Has(name) && q.Get(name) == value })
}

// asks changes a request.
func asks(which about, change func(*http.Request)) front {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if which(r) {
				r = r.Clone(r.Context())
				change(r)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// asksQuery changes a request's query.
func asksQuery(which about, change func(url.Values)) front {
	return asks(which, func(r *http.Request) {
		q := r.URL.Query()
		change(q)
		r.URL.RawQuery = q.Encode()
	})
}

// body is what POST /events and Watch carry.
type body map[string]any

// asksBody changes a request's JSON, that of Watch behind its five bytes. Which bodies
// it is about, change decides.
func asksBody(which about, change func(*http.Request, body)) front {
	return asks(which, func(r *http.Request) {
		raw, _ := io.ReadAll(r.Body) // all is in memory
		prefix := 0
		if strings.HasSuffix(r.URL.Path, "/Watch") {
			prefix = 5
		}
		b := body{}
		if len(raw) >= prefix && json.Unmarshal(raw[prefix:], &b) == nil {
			change(r, b)
			text, _ := json.Marshal(b)
			head := make([]byte, prefix)
			if prefix > 0 {
				binary.BigEndian.PutUint32(head[1:], uint32(len(text)))
			}
			raw = slices.Concat(head, text)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	})
}

// refuses answers in the place of the server.
func refuses(which about, status int, text string) front {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !which(r) {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text) // the client went
		})
	}
}

// spoiler is a response on its way.
type spoiler struct {
	http.ResponseWriter
	status func(int) int // nil: as it is
	header func(h http.Header, status int)
	frame  func(string) string // of a stream; nil: as it is
	raw    func(string) string // each write; nil: as it is
	sent   bool
	buffer string
}

func (s *spoiler) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush is asked for by Connect, which doesn't unwrap.
func (s *spoiler) Flush() {
	if !s.sent {
		s.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(s.ResponseWriter).Flush()
}

func (s *spoiler) WriteHeader(status int) {
	if !s.sent && s.header != nil {
		s.header(s.Header(), status)
	}
	if !s.sent && s.status != nil {
		status = s.status(status)
	}
	s.sent = true
	s.ResponseWriter.WriteHeader(status)
}

func (s *spoiler) Write(p []byte) (int, error) {
	if !s.sent {
		s.WriteHeader(http.StatusOK)
	}
	if s.raw != nil {
		_, err := io.WriteString(s.ResponseWriter, s.raw(string(p)))
		return len(p), err
	}
	if s.frame == nil || s.Header().Get("Content-Type") != "text/event-stream" {
		return s.ResponseWriter.Write(p)
	}
	s.buffer += string(p)
	for {
		block, rest, ok := strings.Cut(s.buffer, "\n\n")
		if !ok {
			return len(p), nil
		}
		s.buffer = rest
		if block = s.frame(block); block != "" {
			if _, err := io.WriteString(s.ResponseWriter, block+"\n\n"); err != nil {
				return 0, err
			}
		}
	}
}

// answers changes the header of a response.
func answers(which about, change func(h http.Header, status int)) front {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if which(r) {
				w = &spoiler{ResponseWriter: w, header: change}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// tells changes the frames of a stream, each without its empty line. An empty one isn't
// sent. begin is called for each stream.
func tells(which about, begin func() func(string) string) front {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if which(r) {
				w = &spoiler{ResponseWriter: w, frame: begin()}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// frames is tells for what looks at one frame only.
func frames(which about, change func(string) string) front {
	return tells(which, func() func(string) string { return change })
}

func is(frame, event string) bool { return strings.Contains("\n"+frame, "\nevent: "+event) }

var (
	idLine   = regexp.MustCompile(`(?m)^id: .*$`)
	revision = regexp.MustCompile(`"revision":"[^"]*"`)
)

func withID(frame, id string) string { return idLine.ReplaceAllString(frame, "id: "+id) }

func withRevision(frame, rev string) string {
	return revision.ReplaceAllString(frame, `"revision":"`+rev+`"`)
}

func revisionOf(frame string) string {
	found := revision.FindString(frame)
	return strings.TrimSuffix(strings.TrimPrefix(found, `"revision":"`), `"`)
}
