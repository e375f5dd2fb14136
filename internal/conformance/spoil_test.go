package conformance_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

func overHTTP2(r *http.Request) bool { return r.ProtoMajor == 2 }

func isOlder(rev string) bool { return rev != "" && rev < start && rev[8] == '-' }

func isOurs(rev any) bool {
	text, _ := rev.(string)
	return strings.HasPrefix(text, start[:9])
}

func sinceless(b body, which func(any) bool) {
	if which(b["since"]) {
		delete(b, "since")
	}
}

// before is a revision that is one below; positions of a double are multiples of 8.
func before(rev string) string {
	digits := []byte(rev)
	for i := len(digits) - 1; i > 8; i-- {
		if digits[i] == '0' {
			digits[i] = 'f'
			continue
		}
		if digits[i]--; digits[i] == 'a'-1 {
			digits[i] = '9'
		}
		break
	}
	return string(digits)
}

// backdate stamps an answer of the status as of when the double began.
func backdate(h http.Header, status, of int) {
	if status == of {
		h.Set("Freshet-Revision", start)
	}
}

// only lets so many notices of a stream pass.
func only(n int) func(string) string {
	return func(f string) string {
		if is(f, "invalidate") {
			if n--; n < 0 {
				return ""
			}
		}
		return f
	}
}

// catchesUpLate tells the catch-up after ready.
func catchesUpLate() func(string) string {
	held, ready := "", false
	return func(f string) string {
		switch {
		case ready:
			return f
		case is(f, "invalidate"):
			held += "\n\n" + f
			return ""
		case is(f, "ready"):
			ready = true
			return f + held
		}
		return f
	}
}

// neverReady leaves out the ready after a reset.
func neverReady() func(string) string {
	reset := false
	return func(f string) string {
		if reset = reset || is(f, "reset"); reset && is(f, "ready") {
			return ""
		}
		return f
	}
}

// limited takes so many topics by POST, and refuses exactly one more.
func limited(next http.Handler, most int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openPost(r) {
			raw, _ := io.ReadAll(r.Body)
			if strings.Count(string(raw), "conformance/many/") == most+1 {
				http.Error(w, "too many", http.StatusRequestEntityTooLarge)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(raw))
		}
		next.ServeHTTP(w, r)
	})
}

// remembers answers a strong read as it did first.
func remembers(next http.Handler) http.Handler {
	var mu sync.Mutex // guards known
	known := map[string]*httptest.ResponseRecorder{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !posts(r) || !strong(r) || r.Header.Get("X-Request-Id") != "" {
			next.ServeHTTP(w, r)
			return
		}
		raw, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if known[string(raw)] == nil {
			r.Body = io.NopCloser(bytes.NewReader(raw))
			known[string(raw)] = httptest.NewRecorder()
			next.ServeHTTP(known[string(raw)], r)
		}
		maps.Copy(w.Header(), known[string(raw)].Header())
		w.WriteHeader(known[string(raw)].Code)
		_, _ = w.Write(known[string(raw)].Body.Bytes())
	})
}
