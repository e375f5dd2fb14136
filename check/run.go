package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	"github.com/freshet-dev/freshet/internal/badnet"
)

// run is one run of the checker.
type run struct {
	cfg      Config
	rec      *recorder
	service  *service
	places   []string
	own      []string // topics of nobody's rows, which SQL tells
	calm     atomic.Bool
	names    *directory
	streams  *streams
	readers  [protocols]*reader // for who has none of its own
	subjects []*subject
	sessions []Session
	truth    Session       // nil: no database
	epoch    freshet.Epoch // that the database was at when it was asked last
	unjudged bool          // the last window is not over

	judge            *judge
	quiet, disturbed delays   // of commits by themselves, and around faults
	converged        measured // the time until all clients had

	front       *badnet.Proxy // between clients and server; nil: no faults
	schedule    *schedule
	planned     *planned // the next fault, if it has been dealt
	caused      []Caused
	judged      int       // how many of them happened in rounds that are over
	every       []*writer // all there are
	long        *writer   // of long transactions
	longSession Session
}

// maxRPCs at a time, of all clients: what else thousands of them ask waits here.
const maxRPCs = 200

// Run checks a server and judges what happened. It returns early, with what it
// has seen, when ctx ends. An error means that there is nothing to judge, or that
// a fault could not be mended.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	chosen, err := cfg.chosenFaults()
	if err != nil {
		return nil, err
	}
	s, err := cfg.Workload.prepare()
	if err != nil {
		return nil, err
	}
	if s.kinds.has(OfCaller) && cfg.TokenOf == nil {
		return nil, errors.New("who calls? the workload has a topic OfCaller: set TokenOf")
	}
	r := &run{cfg: cfg, rec: newRecorder(s), service: s, names: newDirectory(s), places: cfg.PlaceNames(), judge: newJudge(s.kinds)}
	if cfg.Database != nil {
		for i := range 4 {
			r.own = append(r.own, fmt.Sprintf("%s.%s.%d", cmp.Or(cfg.Workload.Told, "freshet.check"), cfg.Run, i))
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	dial := dialer.DialContext
	if len(chosen) > 0 {
		r.cfg.Round = cmp.Or(r.cfg.Round, 10*time.Second)
		r.cfg.Patience = cmp.Or(r.cfg.Patience, 30*time.Second)
		r.schedule = newSchedule(cfg.Seed, chosen, cfg.nodes())
		if r.front, err = badnet.New(""); err != nil {
			return nil, err
		}
		defer r.front.Close()
		if err := r.point(cfg.URL); err != nil {
			return nil, err
		}
		dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, r.front.Addr())
		}
	}
	r.cfg.Round = cmp.Or(r.cfg.Round, 5*time.Second)
	lines := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: dial} // HTTP/1.1: a connection per stream
	rpcs := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: maxRPCs, MaxConnsPerHost: maxRPCs, DialContext: dial}
	rpcs.Protocols.SetHTTP1(true)
	defer lines.CloseIdleConnections()
	defer rpcs.CloseIdleConnections()
	for p, l := range s.dial(&http.Client{Transport: rpcs}, cfg.URL, connect.WithInterceptors(client.NewInterceptor(), cfg.bearer())) {
		r.readers[p] = newReader(l, r.names, r.rec, r.places)
	}
	h := &http.Client{Transport: lines}
	r.streams = &streams{http: h, url: cfg.URL, token: cfg.bearerToken, watch: freshetv1connect.NewInvalidationServiceClient(h, cfg.URL)}
	options := []client.Option{client.WithHTTPClient(h), client.WithBackoff(50*time.Millisecond, time.Second)}
	if cfg.Token != nil || cfg.TokenOf != nil {
		options = append(options, client.WithTokenSource(cfg.bearerToken))
	}
	if r.streams.freshet, err = client.New(cfg.URL, options...); err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range r.sessions {
			s.Close()
		}
	}()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.first(ctx); err != nil {
		return nil, fmt.Errorf("%s doesn't answer: %w", cfg.URL, err)
	}
	elapsed, err := r.all(ctx)
	if err != nil {
		return nil, err
	}
	return r.report(elapsed), nil
}

// point tells the proxy where the server is now.
func (r *run) point(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // the dialer knows both
	}
	r.front.Point(net.JoinHostPort(u.Hostname(), port))
	return nil
}

// first finds out whether there is anybody to judge.
func (r *run) first(ctx context.Context) error {
	return r.readers[byPost].read(ctx, &Read{Topic: r.places[0]})
}

func (r *run) open(ctx context.Context) error {
	if r.cfg.Database == nil {
		return nil
	}
	for range r.cfg.Writers + 3 {
		s, err := r.cfg.Database.Session(ctx)
		if err != nil {
			return err
		}
		r.sessions = append(r.sessions, s)
	}
	r.truth, r.longSession = r.sessions[r.cfg.Writers+1], r.sessions[r.cfg.Writers+2]
	held, err := r.holds(ctx)
	if err != nil {
		return err
	}
	r.epoch = held.Epoch
	return nil
}

// rng is a source of its own for each part, so that a seed gives each the same
// choices however they are interleaved.
func (r *run) rng(part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.cfg.Seed, part))
}

// all runs clients, writers and checkpoints, and returns how long writers wrote.
func (r *run) all(ctx context.Context) (time.Duration, error) {
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	for i := range r.cfg.Clients {
		s := r.subject(i)
		r.subjects = append(r.subjects, s)
		background.Go(func() { s.run(ctx) })
	}
	for by := range transports {
		p := &probe{
			name: "probe-" + by.String(), by: by, streams: r.streams, rec: r.rec, names: r.names,
			rng: r.rng(uint64(by) + 300), ours: r.places, own: r.own, pace: r.pace(),
		}
		background.Go(func() { p.run(ctx) })
	}
	if r.truth != nil {
		background.Go(func() { r.witness(ctx, r.sessions[r.cfg.Writers]) })
		background.Go(func() { r.locate(ctx) })
	}
	background.Go(func() { r.tellProgress(ctx) })
	background.Go(func() { r.rec.tick(ctx) })

	r.phase("connecting")
	r.startUp(ctx)
	writers := r.writers()
	began := r.rec.now()
	for left, n := r.cfg.Duration, 1; left > 0 && ctx.Err() == nil; left, n = left-r.cfg.Round, n+1 {
		if r.cfg.Stage != nil && n%2 == 0 {
			r.truncate(ctx)
		}
		round, cancel := context.WithTimeout(ctx, min(left, r.cfg.Round))
		// Every fourth round is without faults: what they broke would show, and
		// latencies are those of a server in order.
		err := r.write(ctx, round, writers, r.schedule != nil && n%4 != 0)
		cancel()
		if err != nil {
			return 0, err
		}
		r.calm.Store(true)
		if r.cfg.Stage != nil && n%2 == 1 {
			r.behindItsBack(ctx)
		}
		r.close(ctx, r.checkpoint(ctx))
	}
	return r.rec.now() - began, nil
}

// pace is one when there are few clients: each does less when there are many.
func (r *run) pace() int { return max(1, r.cfg.Clients/100) }

// subject makes a client. They differ in how they subscribe and read. Every fifth
// takes the server's throttle, so that notices are merged, the others none. Each
// follows three places, or one and whatever changes at all; every other one
// some rows besides.
func (r *run) subject(i int) *subject {
	rng := r.rng(uint64(i) + 1000)
	topics, n := r.service.wide(), 1
	if wide := i < int(transports) || i%32 == 0; !wide {
		topics, n = nil, 3
	}
	for _, c := range rng.Perm(len(r.places))[:min(n, len(r.places))] {
		topics = append(topics, r.places[c])
	}
	s := newSubject(fmt.Sprintf("client-%d", i+1), topics, rng)
	s.pace = r.pace()
	if s.throttle = 0; i%5 == 4 {
		s.throttle = -1
	}
	if i%2 == 1 {
		s.items = 2
	}
	s.by = [...]transport{getStream, postStream, watchStream, getStream}[i%4]
	s.reader = r.reader([...]protocol{byJSON, byGet, byGRPCWeb, byPost, byGet, byPost}[i%6])
	if i%2 == 0 && r.service.kinds.has(OfCaller) {
		// Not those that it follows by name, whose topics may be the same.
		s.callers = slices.DeleteFunc(slices.Clone(r.places), func(place string) bool { return slices.Contains(topics, place) })
	}
	s.streams, s.names, s.rec, s.calm = r.streams, r.names, r.rec, &r.calm
	return s
}

// reader is one with answers of its own.
func (r *run) reader(by protocol) *reader {
	of := r.readers[by]
	return newReader(of.wire, of.names, of.rec, of.ours)
}

// startUp waits until most clients are connected; who isn't then comes later.
func (r *run) startUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, s := range r.subjects {
		for {
			s.mu.Lock()
			connected, changed := s.connected, s.changed
			s.mu.Unlock()
			if connected {
				break
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r *run) writers() []func(context.Context) {
	numbers := &atomic.Int64{}
	var writers []func(context.Context)
	for i := range r.cfg.Writers {
		if r.service.Create.open != nil {
			byRPC := r.writer(fmt.Sprintf("rpc-%d", i+1), uint64(i)+1, numbers)
			writers = append(writers, func(ctx context.Context) { byRPC.byRPC(ctx, r.readers[i%int(protocols)]) })
		}
		if r.truth != nil {
			bySQL := r.writer(fmt.Sprintf("sql-%d", i+1), uint64(i)+100, numbers)
			writers = append(writers, func(ctx context.Context) {
				bySQL.bySQL(ctx, r.sessions[i], r.readers[(i+1)%int(protocols)], bySQL.sometimes())
			})
		}
	}
	r.long = r.writer("long-1", 99, numbers)
	return writers
}

func (r *run) writer(name string, part uint64, numbers *atomic.Int64) *writer {
	w := newWriter(name, r.rec, r.names, r.rng(part), r.places, numbers)
	w.run, w.own = r.cfg.Run, r.own
	r.every = append(r.every, w)
	return w
}

// write lets the writers write, and faults happen or not, until round ends. What they
// have begun then, they end.
func (r *run) write(ctx, round context.Context, writers []func(context.Context), faulty bool) (err error) {
	r.phase("writing")
	r.calm.Store(false)
	pause := time.Duration(len(writers)) * time.Second / time.Duration(r.cfg.Rate)
	var all sync.WaitGroup
	for i, w := range writers {
		rng := r.rng(uint64(i) + 200)
		all.Go(func() {
			for {
				timer := time.NewTimer(time.Duration(rng.ExpFloat64() * float64(pause)))
				select {
				case <-timer.C:
					w(ctx)
				case <-round.Done():
					timer.Stop()
					return
				}
			}
		})
	}
	if faulty {
		all.Go(func() { err = r.cause(ctx, round) })
	}
	all.Wait()
	return err
}

func (r *run) phase(name string) {
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	r.rec.progress.Phase = name
}

func (r *run) tellProgress(ctx context.Context) {
	if r.cfg.Progress == nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r.rec.mu.Lock()
		p := r.rec.progress
		r.rec.mu.Unlock()
		p.Elapsed, p.Clients = r.rec.now(), len(r.subjects)
		for _, s := range r.subjects {
			s.mu.Lock()
			if s.connected {
				p.Connected++
			}
			s.mu.Unlock()
		}
		r.cfg.Progress(p)
	}
}

// unthrottled are the clients with throttle 0, for latencies.
func (r *run) unthrottled() []string {
	var names []string
	for _, s := range r.subjects {
		if s.throttle == 0 {
			names = append(names, s.name)
		}
	}
	return slices.Clip(names)
}
