package stream

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// MaxThrottle is the longest throttle that a client may ask for.
const MaxThrottle = 10 * time.Second

// Config of a Server. Only Hub is required.
type Config struct {
	Hub *hub.Hub
	// InsertPosition is a position that the primary's WAL has reached: a client's
	// revision above it is from the future, and answered by a reset. It is asked
	// only about a revision above the node's frontier. Nil: such a revision is
	// believed.
	InsertPosition func(context.Context) (freshet.Revision, error)
	// Contract names the compiled contract in ready.
	Contract string
	// Authorize says whether ctx's principal may follow all of the topics. A
	// *connect.Error decides code and message; any other error is internal.
	// Nil: everybody may.
	Authorize func(ctx context.Context, topics []string) error
	// CheckTopic refuses a topic that can't be told, whatever happens: a *connect.Error.
	// Nil: nobody knows.
	CheckTopic func(topic string) *connect.Error
	// Tells says whether a template of the contract may make the topic; one that none
	// makes is followed, and logged. It may be called often. Nil: all are.
	Tells func(topic string) bool
	// Remember returns a context of its own with what Authorize looks at in ctx, so
	// that Reauthorize may ask again when the request is long gone. Each stream keeps
	// one. Nil: nothing of streams is asked again.
	Remember func(ctx context.Context) context.Context
	// Credential returns what ctx's principal has come with: whom it names, and when it
	// expires (zero: never), which is when the stream ends. Nil: nobody, and never.
	Credential func(ctx context.Context) (subject string, expires time.Time)
	// Reauthorize is how often Authorize is asked again about every stream; each at a
	// time of its own within that. Unset: 60 s, negative: only when something calls for
	// it.
	Reauthorize time.Duration

	Heartbeat      time.Duration // between frontier events; unset: 15 s
	Throttle       time.Duration // for who doesn't ask for one; unset: 100 ms, negative: none
	WriteTimeout   time.Duration // per frame; unset: 10 s
	MaxLag         time.Duration // crossing it is told at once; unset: 5 s
	MaxTopics      int           // per stream; unset: 1,000
	MaxConnections int           // streams at a time; unset: 10,000
	MaxBodyBytes   int64         // of POST; unset: 1 MiB
	MaxTopicBytes  int           // of the topics of all streams, with what the server keeps per topic; unset: 256 MiB. Who is bounded below has half of it

	// Caller says whose stream it is, so that none has more than MaxPerCaller.
	// Nil: nobody's. It is asked with the request's context.
	Caller       func(context.Context) string
	MaxPerCaller int // unset: no bound
	// Principal says who is behind a stream, as far as that is known, so that none
	// has more than MaxPerPrincipal. Unset, or empty: nobody that is counted.
	Principal       func(context.Context) string
	MaxPerPrincipal int // unset: no bound

	// KeepHandler keeps every stream on its handler's goroutine. Unset: where it
	// can be, a connection is taken over from net/http (see the package comment).
	KeepHandler bool

	Logger     *slog.Logger          // unset: silent
	Registerer prometheus.Registerer // unset: metrics are counted and not shown
}

func (c Config) withDefaults() (Config, error) {
	if c.Hub == nil {
		return c, errors.New("stream: Config.Hub is nil")
	}
	if c.Throttle > MaxThrottle {
		return c, errors.New("stream: Config.Throttle is above 10 s")
	}
	if c.MaxTopicBytes < 0 || c.MaxPerCaller < 0 || c.MaxPerPrincipal < 0 || c.Heartbeat < 0 || c.WriteTimeout < 0 || c.MaxLag < 0 || c.MaxTopics < 0 || c.MaxConnections < 0 || c.MaxBodyBytes < 0 {
		return c, errors.New("stream: a negative limit in Config")
	}
	c.Reauthorize = cmp.Or(c.Reauthorize, time.Minute)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.Throttle = cmp.Or(c.Throttle, 100*time.Millisecond)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.MaxLag = cmp.Or(c.MaxLag, 5*time.Second)
	c.MaxTopics = cmp.Or(c.MaxTopics, 1000)
	c.MaxConnections = cmp.Or(c.MaxConnections, 10_000)
	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, 1<<20)
	c.MaxTopicBytes = cmp.Or(c.MaxTopicBytes, 256<<20)
	c.Throttle = max(c.Throttle, 0)
	if c.CheckTopic == nil {
		c.CheckTopic = func(string) *connect.Error { return nil }
	}
	if c.Tells == nil {
		c.Tells = func(string) bool { return true }
	}
	if c.Credential == nil {
		c.Credential = func(context.Context) (string, time.Time) { return "", time.Time{} }
	}
	if c.Caller == nil {
		c.Caller = func(context.Context) string { return "" }
	}
	if c.Principal == nil {
		c.Principal = func(context.Context) string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
