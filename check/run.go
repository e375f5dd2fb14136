package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// Config says whom to judge, and how hard. Only URL is required.
type Config struct {
	// URL of the server.
	URL string
	// Run is a name for this run, of lower-case letters and digits: its
	// conversations are called check-<run>-<n>. Empty: the time in base 36.
	Run string
	// Database of the server; nil: writers use RPC only.
	Database Database
	// Duration of the writing; zero: 60 s.
	Duration time.Duration
	// Round is the time between two moments at which writes stop and clients
	// have to converge; zero: 5 s.
	Round time.Duration
	// Clients to simulate; zero: 100.
	Clients int
	// Conversations that they follow; zero: 16.
	Conversations int
	// Writers of each kind, RPC and SQL; zero: 4.
	Writers int
	// Rate of writes per second, of all writers; zero: 100.
	Rate int
	// Seed of what the writers and clients choose; zero: a random one.
	Seed uint64
	// Token is asked for a bearer token before every request and connection;
	// nil or an empty token: none is sent. It must be safe for concurrent use.
	Token func(context.Context) (string, error)
	// Progress is told once a second; nil: nobody is.
	Progress func(Progress)
}

func (c *Config) complete() error {
	if c.URL == "" {
		return errors.New("which server? its URL is missing")
	}
	for _, n := range []*int{&c.Clients, &c.Conversations, &c.Writers, &c.Rate} {
		if *n < 0 {
			return fmt.Errorf("%d: numbers can't be negative", *n)
		}
	}
	orElse(&c.Duration, time.Minute)
	orElse(&c.Round, 5*time.Second)
	orElse(&c.Clients, 100)
	orElse(&c.Conversations, 16)
	orElse(&c.Writers, 4)
	orElse(&c.Rate, 100)
	orElse(&c.Seed, rand.Uint64())
	orElse(&c.Run, RunName())
	return nil
}

func orElse[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// bearer puts the token on RPCs.
func (c *Config) bearer() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if c.Token != nil {
				token, err := c.Token(ctx)
				if err != nil {
					return nil, connect.NewError(connect.CodeUnauthenticated, err)
				}
				if token != "" {
					req.Header().Set("Authorization", "Bearer "+token)
				}
			}
			return next(ctx, req)
		}
	}
}

// RunName is a name for a run that starts now.
func RunName() string { return strconv.FormatInt(time.Now().UnixMilli(), 36) }

// ConversationNames are those that a run with this name writes to.
func (c *Config) ConversationNames() []string {
	n := c.Conversations
	orElse(&n, 16)
	names := make([]string, 0, n)
	for i := range n {
		names = append(names, fmt.Sprintf("check-%s-%d", c.Run, i))
	}
	return names
}

// run is one run of the checker.
type run struct {
	cfg           Config
	rec           *recorder
	conversations []string
	calm          atomic.Bool
	freshet       *client.Client
	messages      messagesv1connect.MessageServiceClient
	subjects      []*subject
	sessions      []Session
	truth         Session // nil: no database
}

// Run checks a server and judges what happened. It returns early, with what it
// has seen, when ctx ends. An error means that there is nothing to judge.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	streams := &http.Transport{MaxIdleConnsPerHost: 1} // HTTP/1.1: a connection per stream
	rpcs := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 64}
	rpcs.Protocols.SetHTTP1(true)
	defer streams.CloseIdleConnections()
	defer rpcs.CloseIdleConnections()
	r := &run{
		cfg: cfg, rec: newRecorder(), conversations: cfg.ConversationNames(),
		messages: messagesv1connect.NewMessageServiceClient(&http.Client{Transport: rpcs}, cfg.URL, connect.WithInterceptors(client.NewInterceptor(), cfg.bearer())),
	}
	var err error
	options := []client.Option{client.WithHTTPClient(&http.Client{Transport: streams}), client.WithBackoff(50*time.Millisecond, time.Second)}
	if cfg.Token != nil {
		options = append(options, client.WithTokenSource(cfg.Token))
	}
	r.freshet, err = client.New(cfg.URL, options...)
	if err != nil {
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
	elapsed := r.all(ctx)
	return r.report(elapsed), nil
}

// first finds out whether there is anybody to judge.
func (r *run) first(ctx context.Context) error {
	return list(ctx, r.messages, &Read{Conversation: r.conversations[0]})
}

func (r *run) open(ctx context.Context) error {
	if r.cfg.Database == nil {
		return nil
	}
	for range r.cfg.Writers + 2 {
		s, err := r.cfg.Database.Session(ctx)
		if err != nil {
			return err
		}
		r.sessions = append(r.sessions, s)
	}
	r.truth = r.sessions[r.cfg.Writers+1]
	return nil
}

// rng is a source of its own for each part, so that a seed gives each the same
// choices however they are interleaved.
func (r *run) rng(part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.cfg.Seed, part))
}

// all runs clients, writers and checkpoints, and returns how long writers wrote.
func (r *run) all(ctx context.Context) time.Duration {
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	for i := range r.cfg.Clients {
		s := r.subject(i)
		r.subjects = append(r.subjects, s)
		background.Go(func() { s.run(ctx) })
	}
	if r.truth != nil {
		background.Go(func() { r.witness(ctx, r.sessions[r.cfg.Writers]) })
		background.Go(func() { r.locate(ctx) })
	}
	background.Go(func() { r.tellProgress(ctx) })

	r.startUp(ctx)
	writers := r.writers()
	began := r.rec.now()
	for left := r.cfg.Duration; left > 0 && ctx.Err() == nil; left -= r.cfg.Round {
		round, cancel := context.WithTimeout(ctx, min(left, r.cfg.Round))
		r.write(ctx, round, writers)
		cancel()
		r.checkpoint(ctx)
	}
	if r.truth != nil {
		r.locateOnce(context.WithoutCancel(ctx))
		r.settle(context.WithoutCancel(ctx))
	}
	return r.rec.now() - began
}

// subject makes a client; every fourth takes the server's throttle, so that
// notices are merged, the others none. Each follows three conversations.
func (r *run) subject(i int) *subject {
	rng := r.rng(uint64(i) + 1000)
	var conversations []string
	for _, n := range rng.Perm(len(r.conversations))[:min(3, len(r.conversations))] {
		conversations = append(conversations, r.conversations[n])
	}
	s := newSubject(fmt.Sprintf("client-%d", i+1), conversations, rng)
	if s.throttle = 0; i%4 == 3 {
		s.throttle = -1
	}
	s.freshet, s.messages, s.rec, s.calm = r.freshet, r.messages, r.rec, &r.calm
	return s
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
		byRPC := newWriter(fmt.Sprintf("rpc-%d", i+1), r.rec, r.rng(uint64(i)+1), r.conversations, numbers)
		writers = append(writers, func(ctx context.Context) { byRPC.byRPC(ctx, r.messages) })
		if r.truth != nil {
			bySQL := newWriter(fmt.Sprintf("sql-%d", i+1), r.rec, r.rng(uint64(i)+100), r.conversations, numbers)
			writers = append(writers, func(ctx context.Context) { bySQL.bySQL(ctx, r.sessions[i]) })
		}
	}
	return writers
}

// write lets the writers write until round ends. What they have begun then, they
// end.
func (r *run) write(ctx, round context.Context, writers []func(context.Context)) {
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
	all.Wait()
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
