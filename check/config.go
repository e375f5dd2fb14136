package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

// Config says whom to judge, and how hard. Only URL and Workload are required.
type Config struct {
	// URL of the server.
	URL string
	// Workload is the service of it that is read and written.
	Workload Workload
	// Run is a name for this run, of lower-case letters and digits: its
	// places are called check-<run>-<n>. Empty: the time in base 36.
	Run string
	// Database of the server, as [OpenPostgres] makes it; nil: writers use RPC only.
	Database Database
	// Duration of the writing; zero: 60 s.
	Duration time.Duration
	// Round is the time between two moments at which writes stop and clients
	// have to converge; zero: 5 s, with faults 10 s.
	Round time.Duration
	// Patience is how long a client may take to converge, since writes have stopped
	// and its stream has begun, before G3 counts as broken, two heartbeats and 2 s at least; zero: that, with faults 30 s (a
	// server that was killed has to come back first). Report.Converged says how
	// long they took.
	Patience time.Duration
	// Faults to cause while writers write, by name; see FaultNames. All and none
	// are names, too.
	Faults []string
	// Stage is a server of the checker's own, of one node or several, for faults that need one, for
	// TRUNCATE and for changes behind the publication's back; nil: it is somebody
	// else's, and of its rows none is touched but the run's own.
	Stage *Stage
	// Clients to simulate; zero: 300.
	Clients int
	// Places that they follow; zero: 16, or a sixth of the clients, so that
	// a write concerns about eighteen of them however many there are.
	Places int
	// Writers of each kind, RPC and SQL; zero: 4.
	Writers int
	// Rate of writes per second, of all writers; zero: 100.
	Rate int
	// Seed of what the writers and clients choose; zero: a random one.
	Seed uint64
	// Token is asked for a bearer token before every request and connection;
	// nil or an empty token: none is sent. It must be safe for concurrent use.
	Token func(context.Context) (string, error)
	// TokenOf is asked for the token of the caller whose claim is a place, for a workload
	// with a topic OfCaller. Each of them must be allowed all reads and topics but those
	// of other callers, and whoever Token is, all. It must be safe for concurrent use.
	TokenOf func(ctx context.Context, place string) (string, error)
	// Progress is told once a second; nil: nobody is.
	Progress func(Progress)
	// Condemned is told all that happened in the first round in which a rule was
	// broken, and all writes before; nil: nobody is.
	Condemned func(*History)
}

func (c *Config) complete() error {
	if c.URL == "" {
		return errors.New("which server? its URL is missing")
	}
	if c.Database == nil && c.Workload.Create.open == nil {
		return errors.New("nobody can write: neither is there a database, nor has the workload an RPC that creates rows")
	}
	for _, n := range []*int{&c.Clients, &c.Places, &c.Writers, &c.Rate} {
		if *n < 0 {
			return fmt.Errorf("%d: numbers can't be negative", *n)
		}
	}
	c.Duration = cmp.Or(c.Duration, time.Minute)
	c.Clients = cmp.Or(c.Clients, defaultClients)
	c.Places = c.places()
	c.Writers = cmp.Or(c.Writers, 4)
	c.Rate = cmp.Or(c.Rate, 100)
	c.Seed = cmp.Or(c.Seed, rand.Uint64())
	c.Run = cmp.Or(c.Run, RunName())
	return nil
}

const defaultClients = 300

// nodes is how many there are to do something to.
func (c *Config) nodes() int {
	if c.Stage == nil {
		return 0
	}
	return len(c.Stage.Nodes)
}

func (c *Config) places() int {
	return cmp.Or(c.Places, max(16, cmp.Or(c.Clients, defaultClients)/6))
}

// bearer puts the token on RPCs.
func (c *Config) bearer() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			token, err := c.bearerToken(ctx)
			if err != nil {
				return nil, connect.NewError(connect.CodeUnauthenticated, err)
			}
			if token != "" {
				req.Header().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, req)
		}
	}
}

// RunName is a name for a run that starts now.
func RunName() string { return strconv.FormatInt(time.Now().UnixMilli(), 36) }

// PlaceNames are the places that a run with this name writes to. Nobody else may.
func (c *Config) PlaceNames() []string {
	n := c.places()
	names := make([]string, 0, n)
	for i := range n {
		names = append(names, fmt.Sprintf("check-%s-%d", c.Run, i))
	}
	return names
}
