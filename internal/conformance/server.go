package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ServerConfig says which server is judged, and how.
type ServerConfig struct {
	// URL of the server, without a path.
	URL string
	// Service is what it serves.
	Service Service
	// Header goes with each request: Authorization, say.
	Header http.Header
	// Patience is how long to wait for what has to come. Unset: 10 s.
	Patience time.Duration
	// Only and Skip name cases. Empty Only: all.
	Only, Skip []string
}

// ServerCases are all cases for servers, in the order of the report.
func ServerCases() []Case {
	var all []Case
	for _, some := range [][]Case{topicCases, atLeastCases, callCases, saysCases, wireCases, beginCases, sinceCases, resumeCases, resetCases, toldCases, refusalCases, watchCases} {
		all = append(all, some...)
	}
	return all
}

// Group is cases about what a server may be without, since its clients can do without it.
type Group struct {
	Cases   string // the name of one, or a pattern of several
	Needs   string // what the server has, which they are about
	Without string // when to leave them out
}

// OptionalCases are such groups. All other cases are of what each client counts on.
func OptionalCases() []Group {
	return []Group{
		{"watch-*", "`freshet.v1.InvalidationService`, in Connect's JSON", "clients follow by `/events` alone: the service isn't mounted, or a proxy holds streams of RPCs back"},
		{"http2-*", "HTTP/2, at an `http:` URL without TLS (h2c)", "the server, or the proxy before it, speaks HTTP/1.1 only"},
		{"grpc-*", "gRPC and gRPC-Web with messages in JSON (`application/grpc+json`, `application/grpc-web+json`)", "there is neither, or protobuf alone: Connect's handlers have all of it, grpc-go's have no JSON"},
		{"cache-header", "`Freshet-Cache` on the answers of reads", "the server doesn't say where an answer is from, as a node doesn't of reads that each run their handler: `uncached`, or neither `shared` nor of a [known caller](library.md#who-calls)"},
		{"request-id-*", "`X-Request-Id` on all answers", "answers have no ids, or a proxy gives them its own"},
		{"mutation-topics", "`Freshet-Topics` on the answers of writes", "handlers write by connections of their own, of which [the node doesn't see the commit](library.md#three-depths)"},
	}
}

// Server judges a server until each case is decided. The error is about the config, or
// says that there is no server, or none that the service's read and write reach.
func Server(ctx context.Context, cfg ServerConfig) (*Report, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is no URL of a server: want http://host:port", cfg.URL)
	}
	if err := cfg.Service.check(); err != nil {
		return nil, err
	}
	cases, err := choose(ServerCases(), cfg.Only, cfg.Skip)
	if err != nil {
		return nil, err
	}
	if cases = slices.DeleteFunc(cases, cfg.Service.lacks); len(cases) == 0 {
		return nil, errors.New("the service has no misspelled call or topic, which these cases are about")
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Service.PlaceLength == 0 {
		cfg.Service.PlaceLength = 40
	}
	// Case by case new connections would be many; the transports end with the run.
	one := &http.Transport{MaxIdleConnsPerHost: 4 * atOnce, Protocols: new(http.Protocols)}
	one.Protocols.SetHTTP1(true)
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetHTTP2(true)
	two.Protocols.SetUnencryptedHTTP2(true)
	defer one.CloseIdleConnections()
	defer two.CloseIdleConnections()
	d := &driver{
		base: strings.TrimSuffix(cfg.URL, "/"), service: cfg.Service, header: cfg.Header, patience: cfg.Patience,
		one: stays(one), two: stays(two), run: strconv.FormatUint(rand.Uint64(), 36),
	}
	if err := d.answers(ctx); err != nil {
		return nil, err
	}
	return run(ctx, cases, atOnce, func(ctx context.Context, c Case) string {
		t := &trial{driver: d, ctx: ctx}
		return t.decide(func() { c.server(t) })
	}), nil
}

// stays is a client that follows no redirect: where a request went is part of the verdict.
func stays(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// driver is what cases have in common.
type driver struct {
	base     string
	service  Service
	header   http.Header
	patience time.Duration
	one, two *http.Client // HTTP/1.1, HTTP/2
	run      string       // in the names of places
	places   atomic.Int64
}

// answers says whether there is somebody who can be judged: cases can do nothing without
// a read and a write.
func (d *driver) answers(ctx context.Context) error {
	t := &trial{driver: d, ctx: ctx}
	if failure := t.decide(func() {
		place := t.place()
		for i, c := range []Call{d.service.Read, d.service.Write} {
			a := t.post(c, place, t.value())
			if i == 0 {
				said, _ := parsePrincipal(a) // how it is written is a case
				d.service = d.service.as(said)
			}
			t.needf(a.status == http.StatusOK, "the service's %s, POST %s%s, was answered %s\n%s", []string{"read", "write"}[i], d.base, c.Procedure, a, needed)
		}
		t.needf(!strings.Contains(d.service.Read.Topic, callerMark), "the service's read has the topic %q, and its answer no Freshet-Principal that says the claim", d.service.Read.Topic)
	}); failure != "" {
		return errors.New(failure)
	}
	return nil
}

const needed = "The cases read and write by methods of the server's own service, and read what isn't there. " +
	"Unless told otherwise they take those of messages.v1.MessageService, as \"freshet serve\" has it; " +
	"for another service --service FILE says which methods, and --token-file has a token where callers need one: docs/conformance.md, \"A server\"."

// trial is one case against the server.
type trial struct {
	verdict
	*driver
	ctx  context.Context
	need string // the highest of its writes; empty: none yet
}

// place is the name of one that nobody has used, as long as names may be.
func (t *trial) place() string {
	name := fmt.Sprintf("%s%d", t.run, t.places.Add(1))
	return "c" + strings.Repeat("0", max(0, t.service.PlaceLength-len(name)-1)) + name
}

func (t *trial) value() string { return "value" + strconv.FormatInt(t.places.Add(1), 10) + "x" + t.run }

// read asks for a place. The answer may be an error.
func (t *trial) read(place string, header ...string) answer {
	return t.post(t.service.Read, place, "", header...)
}

func (t *trial) post(c Call, place, value string, header ...string) answer {
	return t.do(http.MethodPost, c.Procedure, c.at(place, value), append([]string{"Content-Type", "application/json"}, header...)...)
}

// get asks for a place by Connect's GET.
func (t *trial) get(place string, header ...string) answer {
	query := url.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {t.service.Read.at(place, "")}}
	return t.do(http.MethodGet, t.service.Read.Procedure+"?"+query.Encode(), "", header...)
}

// written is what a mutation came to.
type written struct{ value, stamp, topics string }

func (t *trial) write(place string) written {
	value := t.value()
	a := t.post(t.service.Write, place, value)
	t.needf(a.status == http.StatusOK, "the write was answered %s", a)
	t.need = max(t.need, a.stamp())
	return written{value: value, stamp: a.stamp(), topics: a.header.Get("Freshet-Topics")}
}

// position is where the server is once it has told all that the case has written. A write
// may return before that, and what is told then needn't be of a catch-up.
func (t *trial) position(place string) string {
	l := t.events(url.Values{"topic": {t.service.topic(place)}})
	defer l.close()
	frames := l.until("ready")
	ready := frames[len(frames)-1]
	return max(ready.id, l.reaches(t.need))
}

// Revisions of other histories, made from one of the server's.
func older(rev string) string { return epochOf(rev, func(e uint64) uint64 { return e - 1 }) }

func newer(rev string) string { return epochOf(rev, func(uint64) uint64 { return 0xffffffff }) }

func future(rev string) string { return rev[:9] + "7fffffffffffffff" }

func epochOf(rev string, change func(uint64) uint64) string {
	epoch, _ := strconv.ParseUint(rev[:8], 16, 32) // what position returns has been looked at
	return fmt.Sprintf("%08x%s", change(epoch), rev[8:])
}
