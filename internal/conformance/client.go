package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ClientConfig says which client is judged, and how.
type ClientConfig struct {
	// Command starts the client's adapter, once for each case: it reads commands from
	// standard input and says what the client shows on standard output.
	Command []string
	// URL of an adapter that runs already, in the place of Command: a session for each
	// case, of a GET that answers with lines and a POST for each command.
	URL string
	// Patience is how long to wait for what has to come. Unset: 10 s.
	Patience time.Duration
	// Only and Skip name cases. Empty Only: all.
	Only, Skip []string

	// front stands before the scripted server, and spoils what passes; nil: nothing.
	front func(http.Handler) http.Handler
	// reports changes what the adapter says; nil: nothing.
	reports func(*report) bool
}

// ClientCases are all cases for clients, in the order of the report.
func ClientCases() []Case {
	return slices.Concat(followCases, ruleCases, failureCases, streamCases, epochCases)
}

// Client judges a client until each case is decided. The error is about the config, or
// says that there is no client.
func Client(ctx context.Context, cfg ClientConfig) (*Report, error) {
	if (len(cfg.Command) == 0) == (cfg.URL == "") {
		return nil, errors.New("one is needed: a command that starts the client's adapter, or its URL")
	}
	cases, err := choose(ClientCases(), cfg.Only, cfg.Skip)
	if err != nil {
		return nil, err
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Second
	}
	if err := cfg.adapts(ctx); err != nil {
		return nil, err
	}
	const atOnce = 8 // processes
	return run(ctx, cases, atOnce, func(ctx context.Context, c Case) string { return cfg.play(ctx, c.client) }), nil
}

// play plays a server against the client, and says what was wrong with that.
func (c ClientConfig) play(ctx context.Context, script func(*play)) (failure string) {
	// Commands, connections and handlers end with it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &play{ctx: ctx, cfg: c, reads: make(chan *read, 1000), opens: make(chan *opened, 1000)}
	p.values = map[string]string{}
	p.auto.Store(true)
	return p.decide(func() { script(p) })
}

// adapts says whether there is somebody who can be judged: no case can do without a
// report.
func (c ClientConfig) adapts(ctx context.Context) error {
	c.front, c.reports = nil, nil
	failure := c.play(ctx, func(p *play) {
		p.launch(listOf("1"))
		p.until("report of what the client shows", func() bool {
			_, ok := p.adapter.last("1")
			return ok
		})
	})
	if failure == "" {
		return nil
	}
	return fmt.Errorf("%s is no adapter of a client: %s\n%s", cmp.Or(c.URL, strings.Join(c.Command, " ")), failure, wanted)
}

const wanted = "Wanted is a program around the client that reads commands in JSON from its standard input, " +
	"the first is {\"do\":\"start\",…}, and says in lines of JSON on standard output what the client shows of each query, " +
	"{\"query\":\"1\",\"data\":{…},\"stale\":false}: docs/conformance.md, \"A client\"."

// Query is a read that the client keeps fresh.
type query struct {
	Name      string            `json:"name"`
	Procedure string            `json:"procedure"`
	Request   map[string]string `json:"request"`
	Reads     []string          `json:"reads"` // the method's templates
}

const service = "/messages.v1.MessageService/"

// listOf is a query whose topic is conversations/NAME/messages, named as that.
func listOf(name string) query {
	return query{Name: name, Procedure: service + "ListMessages", Request: map[string]string{"parent": "conversations/" + name}, Reads: []string{"{parent=**}/messages"}}
}

func topicOf(name string) string { return "conversations/" + name + "/messages" }

// getOf is one whose topic is a message's name.
func getOf(name string) query {
	return query{Name: name, Procedure: service + "GetMessage", Request: map[string]string{"name": messageName}, Reads: []string{"{name=**}"}}
}

const messageName = "conversations/1/messages/01928c7e-0000-7000-8000-000000000001"

// The revisions of a play: of its epoch, of the next, of the one before.
func rev(position int) string      { return fmt.Sprintf("0000000a-%016x", position) }
func nextRev(position int) string  { return fmt.Sprintf("0000000b-%016x", position) }
func lowerRev(position int) string { return fmt.Sprintf("00000009-%016x", position) }

// play is one case of a client, with the server that it is played against.
type play struct {
	verdict
	ctx     context.Context
	cfg     ClientConfig
	adapter *adapter
	url     string

	// auto: the server answers by itself, as one does on which nothing happens.
	auto  atomic.Bool
	reads chan *read   // while it isn't auto
	opens chan *opened // the same

	stage // what the handlers share
}

// begin starts server and client with the queries, and returns once the client shows
// what they answer and has been told of a change in each. From then on the script
// answers.
func (p *play) begin(queries ...query) {
	p.launch(queries...)
	for _, q := range queries {
		p.shows(q.Name, p.valueOf(q.Name))
	}
	for i, q := range queries { // so that the stream is known to be heard
		p.until("a stream of "+q.Name, func() bool { return p.follows(q.topic()) })
		p.commit(q, rev(firstPosition+1+i), "second of "+q.Name)
		p.shows(q.Name, "second of "+q.Name)
	}
	p.auto.Store(false)
}

// firstPosition is where the play begins; settled is after begin, with room for its queries.
const (
	firstPosition = 0x100
	settled       = 0x200
)

func (q query) topic() string {
	if parent, ok := q.Request["parent"]; ok {
		return parent + "/messages"
	}
	return q.Request["name"]
}

// launch starts server and client.
func (p *play) launch(queries ...query) {
	p.frontier = rev(firstPosition)
	for _, q := range queries {
		p.values[q.Name] = "first of " + q.Name
	}
	p.queries = queries
	listener, err := new(net.ListenConfig).Listen(p.ctx, "tcp", "127.0.0.1:0")
	p.needf(err == nil, "%v", err)
	handler := p.handler()
	if p.cfg.front != nil {
		handler = p.cfg.front(handler)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: p.cfg.Patience, BaseContext: func(net.Listener) context.Context { return p.ctx }}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until it is closed
	}()
	p.cleanup(func() {
		_ = server.Close() // cuts what is open
		<-served
	})
	p.url = "http://" + listener.Addr().String()
	p.adapter = startAdapter(p.ctx, &p.verdict, p.cfg)
	p.cleanup(p.adapter.stop)
	p.adapter.send(command{Do: "start", URL: p.url, Queries: queries})
}

// until waits for a condition, which is looked at whenever something has happened.
func (p *play) until(what string, ok func() bool) {
	deadline := time.NewTimer(p.cfg.Patience)
	defer deadline.Stop()
	for {
		streams, reports := p.watch(), p.adapter.watch()
		if ok() {
			return
		}
		select {
		case <-streams:
		case <-reports:
		case <-p.adapter.reading:
			p.needf(ok(), "the adapter ended: no %s; %s", what, p.adapter.summary())
			return
		case <-deadline.C:
			p.failf("within %s: no %s; %s", p.cfg.Patience, what, p.adapter.summary())
		}
	}
}

// shows waits until the client shows a value, or an error's code.
func (p *play) shows(name, value string) {
	p.until(fmt.Sprintf("client that shows %q for %s", value, name), func() bool {
		last, ok := p.adapter.last(name)
		return ok && strings.Contains(last.shown(), value)
	})
}

// stale waits until the client says so of a query.
func (p *play) stale(name string, is bool) {
	p.until(fmt.Sprintf("client that says stale is %t of %s", is, name), func() bool {
		last, ok := p.adapter.last(name)
		return ok && last.Stale == is
	})
}

// neverShown: the client hasn't shown the value, up to now.
func (p *play) neverShown(name, value string) {
	p.needf(!p.adapter.ever(name, value), "%s showed %q", name, value)
}

// read is the next read, which has to come and be of the query.
func (p *play) read(name string) *read {
	r := p.anyRead("of " + name)
	p.needf(r.name == name, "a read of %s was due; there came one of %q", name, r.name)
	return r
}

// anyRead is the next read, of whatever query; which says what is waited for.
func (p *play) anyRead(which string) *read {
	select {
	case r := <-p.reads:
		p.needf(r.atLeast == "" || shape.MatchString(r.atLeast), "Freshet-At-Least is %q", r.atLeast)
		return r
	case <-time.After(p.cfg.Patience):
		p.failf("within %s: no read %s; %s", p.cfg.Patience, which, p.adapter.summary())
	}
	return nil
}

// readAtLeast is the next read, which has to ask for this at least.
func (p *play) readAtLeast(name, atLeast string) *read {
	r := p.read(name)
	p.needf(r.atLeast == atLeast, "the read of %s is at-least %q; %q is needed", name, r.atLeast, atLeast)
	return r
}

// noRead: none came up to now. That it would have come the script has to see to, by
// something that happens after it.
func (p *play) noRead(why string) {
	select {
	case r := <-p.reads:
		p.failf("there came a read of %s at-least %q; %s", r.name, r.atLeast, why)
	default:
	}
}

// open is the next stream, which has to come. It is still to be answered.
func (p *play) open() *opened {
	select {
	case o := <-p.opens:
		return o
	case <-time.After(p.cfg.Patience):
		p.failf("within %s: no stream was opened; %s", p.cfg.Patience, p.adapter.summary())
	}
	return nil
}
