package front

import (
	"errors"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/internal/share"
)

// perAddress bounds the requests that are under way from one address, before anybody
// asks who calls: so checking what they say of themselves is bounded, too. Streams
// have bounds of their own.
func (f *Front) perAddress(next http.Handler) http.Handler {
	requests := share.New[netip.Addr](0, max(f.cfg.MaxRequestsPerAddress, 0))
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "freshet_http_requests_refused_total", Help: "Requests refused since too many were under way from their address.",
	})
	f.registry.MustRegister(refused)
	written := connect.NewErrorWriter()
	tooMany := connect.NewError(connect.CodeResourceExhausted, errors.New("too many requests are under way from your address"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == eventsPath || r.URL.Path == freshetv1connect.InvalidationServiceWatchProcedure {
			next.ServeHTTP(w, r)
			return
		}
		from := f.callers.request(r)
		if requests.Take(from, 1) != share.Granted {
			refused.Inc()
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Cache-Control", "no-store")
			_ = written.Write(w, r, tooMany) // the peer has gone if it can't be told
			return
		}
		defer requests.Give(from, 1)
		next.ServeHTTP(w, r)
	})
}
