package front

import (
	"net/http"
	"slices"
	"strings"

	connectcors "connectrpc.com/cors"

	"github.com/freshet-dev/freshet/server/intercept"
)

// traceHeaders are what tracing adds to a page's requests: W3C Trace Context and
// Baggage (OpenTelemetry's default), B3, Jaeger's, Sentry's.
var traceHeaders = []string{
	"traceparent", "tracestate", "baggage",
	"b3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags",
	"uber-trace-id", "sentry-trace",
}

// cors answers pages of other origins by an allow-list (the Fetch standard,
// "CORS protocol"). It never allows credentials, that is cookies: a page elsewhere has
// to hold a token itself, and to send it as Authorization, which it may.
func cors(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	methods := strings.Join(connectcors.AllowedMethods(), ", ")
	headers := strings.Join(append(connectcors.AllowedHeaders(),
		append(slices.Clip(traceHeaders), intercept.HeaderAtLeast, intercept.HeaderRequestID, "Authorization", "If-None-Match", "Last-Event-ID")...), ", ")
	exposed := strings.Join(append(connectcors.ExposedHeaders(),
		intercept.HeaderRevision, intercept.HeaderTopics, intercept.HeaderCache, intercept.HeaderCause, intercept.HeaderPrincipal, intercept.HeaderRequestID, "ETag", "Retry-After", "WWW-Authenticate"), ", ")
	everyone := slices.Contains(origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" || !everyone && !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r) // without our headers the browser refuses the answer
			return
		}
		if everyone {
			origin = "*"
		}
		h.Set("Access-Control-Allow-Origin", origin)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", headers)
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", exposed)
		next.ServeHTTP(w, r)
	})
}

// secure sets headers that hold for every answer; the page says more precisely
// what it may load.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}
