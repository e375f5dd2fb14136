package intercept

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

// HeaderRequestID carries an id that the log repeats where an answer says no
// more than "internal error".
const HeaderRequestID = "X-Request-Id"

type requestIDKey struct{}

// RequestIDOf returns the request's id; without the RequestID middleware, "".
func RequestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// RequestID gives every request an id, the caller's own if it is harmless in a
// log, and repeats it on the response.
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(HeaderRequestID)
		if !isHarmless(id) {
			id = rand.Text()
		}
		w.Header().Set(HeaderRequestID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

func isHarmless(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if !isUnreserved(id[i]) {
			return false
		}
	}
	return true
}

// Procedures answers a call of an unknown procedure in the form that RPC
// clients understand, where the mux would send a plain 404. known lists every
// procedure that is served ("/package.Service/Method").
func Procedures(known []string, next http.Handler) http.Handler {
	procedures := make(map[string]bool, len(known))
	for _, procedure := range known {
		procedures[procedure] = true
	}
	errors := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if procedures[r.URL.Path] || !isProcedure(r.URL.Path) || r.Method != http.MethodPost && r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		// The peer has gone if it can't be told.
		_ = errors.Write(w, r, connect.NewError(connect.CodeUnimplemented,
			fmt.Errorf("there is no procedure %q", r.URL.Path)))
	})
}

// isProcedure reports whether a path has the form of a procedure: a qualified
// service name and a method.
func isProcedure(path string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || method == "" || !strings.Contains(service, ".") {
		return false
	}
	for _, part := range append(strings.Split(service, "."), method) {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return false
		}
	}
	return true
}
