// Package front is what stands between a node of package server and everybody
// else when Freshet is a program of its own: ports and their limits, names and
// origins that are answered to, health and readiness, the page, and an end in good
// order. cmd/freshet serve and the tests of the whole are its users.
//
// Run starts in this order and stops in the reverse one:
//
//  1. the ports: from here on /healthz and /readyz answer, and calls are told to
//     come back
//  2. what the caller has to prepare (a database, say)
//  3. the node, which lets calls through when it has come so far
//
// On the way down readiness goes off first, with Retire while everything is
// served on; then streams are told to come back and calls drained, or cut; then
// the node ends.
package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/server"
)

// Front is the front of one node. Use New; Run it once.
type Front struct {
	cfg      Config
	callers  callers
	registry *prometheus.Registry
	url      atomic.Value // string: of the main port, once it is open

	certificate *certificate // nil: without TLS

	parts    service.Group
	ready    *readiness
	retired  atomic.Bool
	served   atomic.Bool     // the node has been ready
	draining context.Context //nolint:containedctx // until when those who are served may go on; set when the stop begins
	https    []*http.Server  // everybody's, then perhaps the admin port's; drained when the parts that answer begin to stop
}

// New validates the configuration, and reads the certificate. It opens nothing.
func New(cfg Config) (*Front, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, &ConfigError{err}
	}
	f := &Front{cfg: cfg, registry: prometheus.NewRegistry()}
	f.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	if cfg.TLSCert != "" {
		if f.certificate, err = openCertificate(cfg.TLSCert, cfg.TLSKey, cfg.Logger, f.registry); err != nil {
			return nil, err
		}
	}
	if f.callers, err = newCallers(cfg.TrustedProxies); err != nil {
		return nil, &ConfigError{err}
	}
	return f, nil
}

// Registry is what the admin port shows: for the node's metrics.
func (f *Front) Registry() *prometheus.Registry { return f.registry }

// Caller is the address that a request comes from, behind trusted proxies: for
// server.Config.Caller.
func (f *Front) Caller(r *http.Request) string { return f.callers.request(r).String() }

// URL is where the main port is, once Run has opened it.
func (f *Front) URL() string {
	url, _ := f.url.Load().(string)
	return url
}

// OnReady is for server.Config.OnReady: it logs where the node is served.
func (f *Front) OnReady() {
	f.served.Store(true)
	f.cfg.Logger.Info("ready", "url", f.URL())
}

// Service is one RPC service: what it declares, and where its handler is, as the
// generated constructor returns it.
type Service struct {
	Descriptor protoreflect.ServiceDescriptor
	Path       string
	Handler    http.Handler
}

// Run serves the node and its services until ctx ends, and returns nil then; or
// until something fails that waiting doesn't mend, and says what. prepare runs
// between the opening of the ports and the node's start; nil: there is nothing to
// do. Run returns when everything has been stopped.
func (f *Front) Run(ctx context.Context, node *server.Node, prepare func(context.Context) error, services ...Service) (err error) {
	defer node.Close() // which may not have come to run
	if f.cfg.Authenticated && !node.Authenticates() {
		return errors.New("the node doesn't ask who calls (server.Config.Authenticate), though its front was told so")
	}
	f.ready = &readiness{node: node}
	defer func() {
		if f.served.Load() { // else there is nobody to be told
			f.cfg.Logger.InfoContext(ctx, "shutting down: streams are told to come back, calls may end")
		}
		background := context.WithoutCancel(ctx)
		var cancel context.CancelFunc
		f.draining, cancel = context.WithTimeout(background, f.halfDrain())
		defer cancel()
		stopping, cancel := context.WithTimeout(background, f.halfDrain()+stopTimeout)
		defer cancel()
		err = errors.Join(err, f.parts.Stop(stopping))
	}()
	if f.certificate != nil {
		f.parts.Go("certificate", f.certificate.Run)
	}
	if err := f.listen(ctx, f.handler(node, services), f.admin(node)); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	f.parts.Go("node", node.Run)
	f.parts.Defer("requests and streams", func(ctx context.Context) error { return f.drain(ctx, node) })
	return f.parts.Wait(ctx)
}

// stopTimeout is what a node that serves nobody any more has to stop.
const stopTimeout = 15 * time.Second

func (f *Front) halfDrain() time.Duration { return max(f.cfg.Drain/2, 0) }

// Retire says in readiness that traffic should go elsewhere, and returns after
// half of Drain, or when ctx ends, while everything is served on: a balancer has
// that long to notice before connections are refused. End Run's context then.
//
// Connections close with their next answer meanwhile: what is closed later, while it
// idles, may be closed under a call that is just being sent.
func (f *Front) Retire(ctx context.Context, node *server.Node) {
	node.Retire()
	f.retired.Store(true)
	f.cfg.Logger.InfoContext(ctx, "stopping: not ready any more, but serving on for a while", "for", f.halfDrain())
	timer := time.NewTimer(f.halfDrain())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drain lets running requests end, and cuts those that don't; no new ones are
// accepted. Meanwhile streams end, one after the other if the node has retired. The
// admin port goes last: until then a balancer that checks it is told that we stop,
// rather than finding nobody, and has no reason to cut what is still to end.
func (f *Front) drain(ctx context.Context, node *server.Node) error {
	streams := make(chan error, 1)
	go func() { streams <- node.Drain(f.draining) }()
	err := f.drainRequests(ctx, f.https[0])
	err = errors.Join(err, <-streams)
	for _, admin := range f.https[1:] {
		err = errors.Join(err, f.drainRequests(ctx, admin))
	}
	return err
}

// drainRequests shuts one port.
func (f *Front) drainRequests(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(f.draining)
	if errors.Is(err, context.DeadlineExceeded) {
		f.cfg.Logger.WarnContext(ctx, "calls were cut: they did not end in time (--drain)")
		err = server.Close()
	}
	return err
}

// page returns the handler of `/`.
func (f *Front) page() http.Handler {
	if f.cfg.Page != nil {
		return f.cfg.Page
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/":
			http.NotFound(w, r)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Freshet serves RPC and a stream here:\n\n  curl -N '%s/events?topic=messages'\n", f.URL())
	})
}
