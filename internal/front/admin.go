package front

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet-dev/freshet/server"
)

// admin is what the admin port serves: to everybody at this machine, to other machines
// by grant.
func (f *Front) admin(node *server.Node) http.Handler {
	h := adminHandler(f.registry, http.HandlerFunc(f.ready.detailed), hot(node))
	if !f.cfg.guardsAdmin() {
		return h
	}
	_, protected := node.Protect("/", f.granted(h))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
			alive(w, r)
		case r.URL.Path == "/readyz" && r.Header.Get("Authorization") == "":
			f.ready.ServeHTTP(w, r) // a probe: it needs no details
		default:
			protected.ServeHTTP(w, r)
		}
	})
}

// granted asks whether those who are known may use the admin port.
func (f *Front) granted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := server.PrincipalOf(r.Context())
		switch err := f.cfg.Administer(r.Context(), who); {
		case err == nil:
			next.ServeHTTP(w, r)
		case !errors.Is(err, server.ErrDenied):
			f.cfg.Logger.ErrorContext(r.Context(), "whether somebody may use the admin port can't be told", "error", err)
			unavailable(w, "whether you may can't be told right now")
		case who.Issuer == "" && who.Subject == "": // let in, where tokens aren't required
			w.Header().Set("WWW-Authenticate", `Bearer realm="freshet"`)
			refuse(w, http.StatusUnauthorized, connect.CodeUnauthenticated, "no token: send one as Authorization: Bearer")
		default:
			refuse(w, http.StatusForbidden, connect.CodePermissionDenied, "you have no grant for the admin port")
		}
	})
}

// adminHandler serves metrics, profiles, and what topics cost.
func adminHandler(registry *prometheus.Registry, ready, hot http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", alive)
	mux.Handle("GET /readyz", ready)
	mux.Handle("GET /hot", hot)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// Without arguments, which may hold a password.
	mux.HandleFunc("GET /debug/pprof/cmdline", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, os.Args[0])
	})
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join([]string{"/metrics", "/healthz", "/readyz", "/hot", "/debug/pprof/"}, "\n"))
	})
	return mux
}
