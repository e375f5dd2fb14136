package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/seldom"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/stream"
	"github.com/freshet-dev/freshet/store/setup"
)

// None in a field of Config says that there is none of it, where the field
// says that this is possible. (Zero is the default.)
const None = -1

// AuditMode says which calls prove what they declare; see Config.
type AuditMode = intercept.AuditMode

// The modes of Config.AuditReads.
const (
	AuditSample = intercept.AuditSample // the first of each procedure, and a few after; what is found is logged
	AuditAll    = intercept.AuditAll    // all, and those that read what they don't declare fail: for tests
	AuditOff    = intercept.AuditOff    // none
)

// Config of a node. The zero value of a field with a default takes the default,
// which Defaults tells too.
type Config struct {
	// DatabaseURL of the primary, as pgx and libpq know it: a URL or key=value
	// pairs, completed by PG* variables. Capture needs a direct connection, by a
	// role with REPLICATION; if this one leads through a pooler, CaptureURL or
	// Connect says how else. One of DatabaseURL and Connect is required.
	DatabaseURL string
	// CaptureURL is where capture connects, and migrations do where DatabaseURL leads
	// through a pooler. Empty: as Connect says;
	// without one, DatabaseURL.
	CaptureURL string
	// Connect says how to connect where no URL does: by a password that is rotated,
	// by a token of a cloud. It is asked before each connection, by several
	// goroutines at once, and its answer belongs to the caller; it is to be made by
	// pgx.ParseConfig. Its error counts as a database that can't be reached: it is
	// told, and Connect asked again.
	Connect func(ctx context.Context) (*pgx.ConnConfig, error)
	// ServiceNames are the services that carry the contract's options, by the full
	// names that their generated code says (tasksv1connect.TaskServiceName). Required:
	// one or more, here or in Services.
	ServiceNames []string
	// Services are further ones, by descriptors that needn't be linked in.
	Services []protoreflect.ServiceDescriptor
	// SkipMigrate leaves Freshet's own migrations, publication and replica
	// identities as they are; what is missing is an error that says what to do.
	SkipMigrate bool
	// Migrate makes what the services need in the database, for those who want it
	// done by Run: after Freshet's own migrations, before the publication is set
	// up, and not with SkipMigrate. The connection that is described to it doesn't
	// lead through a pooler, if there is a choice. An error ends Run, but for one of a
	// database that was lost: then Migrate is called again once it is there. Nil:
	// nothing is to be done.
	Migrate func(ctx context.Context, database *pgx.ConnConfig) error
	// Check proves that the services fit the database as they will find it. A
	// *setup.UnfitError ends Run; another error is logged. Nil: nobody looks.
	Check func(ctx context.Context, database *pgx.ConnConfig) error
	// Slot is the replication slot that keeps WAL for nodes that start. All nodes of a
	// database share one; each streams from a temporary copy of its own. Empty:
	// `freshet`.
	Slot string
	// Publication is the publication. All nodes of a database share one. Empty: that
	// of the constant Publication.
	Publication string
	// MaxConns bounds the pool of DB. Zero: what DatabaseURL's pool_max_conns says,
	// or the number of CPUs, at least 4.
	MaxConns int32
	// ReplicaURLs are streaming standbys of DatabaseURL's primary, one URL for each. A read
	// at-least a revision, or for an answer that is kept, that a handler makes with DB
	// runs on one that has replayed as much, and whose history is the primary's; the role
	// is to be a member of pg_read_all_stats, which tells. Else, and for all other reads, it
	// is the primary. Nil: there are none.
	ReplicaURLs []string
	// ReplicaConns bounds the pool of each. Zero: what its URL's pool_max_conns says, or
	// the number of CPUs, at least 4.
	ReplicaConns int32
	// ReplicaWait is how long a read waits for a replica to replay what it needs, and
	// for a connection, before it runs on the primary. Zero: 50 ms.
	ReplicaWait time.Duration

	// NATSURLs are servers of one NATS cluster, by which the nodes of one database that
	// name it have one of them capture, and tell the others: for more nodes than the
	// primary should decode for. Nil: each node captures.
	NATSURLs []string
	// NATSCredentials is a file with a user's JWT and seed, read with each attempt to
	// connect. Empty: none; a URL may have a user and password, or a token.
	NATSCredentials string
	// NATSRootCAs, NATSCert and NATSKey are files in PEM: whose certificates to trust, and
	// the node's own. Empty: the system's; none.
	NATSRootCAs, NATSCert, NATSKey string
	// NATSSubject is what all subjects begin with. Only nodes may be allowed to publish
	// there: whoever else does can have them pass over changes. Empty: `freshet`.
	NATSSubject string
	// NATSFallback has a node capture for itself when NATS has been gone for longer than
	// MaxLag, which takes a slot and a walsender of its own. Otherwise it isn't ready then.
	NATSFallback bool

	// Authenticate says who sent a request: a Principal, the zero one for somebody who
	// isn't known but may come in. It must not read the body. A *connect.Error refuses
	// the caller: code, text, details and metadata are sent, over each protocol in its
	// form. Any other error says that it can't be told now, which is `unavailable`;
	// its text is logged only. It is asked once per request, by many at once, before
	// anything is decoded, and has to heed the request's context. package server/auth
	// has one for tokens of OpenID Connect issuers. Nil: nobody asks, and all are
	// nobody.
	//
	// The node asks for Events and Watch itself. Wrap what has HandlerOptions in
	// Protect: calls that come another way are refused.
	Authenticate Authenticate
	// Authorize says whether a caller may do something with all of some topics, of
	// which there is at least one: nil, or ErrDenied. Any other error says that it
	// can't be told now, which is `unavailable`; its text is logged only. It is asked
	// by many at once, before anything waits or is looked up, and has to heed its
	// context. Grants makes one of a file. Nil: everybody may everything.
	//
	// A read is asked for its topics, a mutation for its `writes`, a stream for each
	// of its topics. What the contract doesn't know is denied: mount a service that
	// looks after itself without HandlerOptions.
	Authorize Authorize
	// Reauthorize is how often Authorize is asked again about each open stream, which
	// ends when it is denied. Zero: 60 s; None: only by Node.Reauthorize, and about
	// subjects that are named by RevokedTopic.
	Reauthorize time.Duration

	// DBRoleClaim names the claim that says as which role the statements of a caller
	// run that DB is given (`role`, at PostgREST and Supabase); DatabaseURL's role is to
	// be a member of it. A caller whose token has no such claim runs as DBAnonymousRole.
	// Where that is empty too, and for a role that can't be taken, the answer is
	// permission_denied. `shared` reads run as DatabaseURL's role. Empty: everybody does.
	// The caller's claims are told to the database either way, as request.jwt.claims.
	DBRoleClaim, DBAnonymousRole string

	// MaxWait bounds the wait of a request at-least. Zero: 2 s; None: it doesn't
	// wait.
	MaxWait time.Duration
	// MaxSettle bounds how long the answer of a write is held back. Zero:
	// 250 ms; None: it isn't.
	MaxSettle time.Duration
	// MaxLag is how far the node may be behind before it says so, and stops
	// serving kept answers. Zero: 5 s.
	MaxLag time.Duration
	// ShedStreams ends streams, and refuses new ones, while the node has not been
	// ready for longer than MaxLag: for nodes behind a balancer that asks
	// whether they are, so that clients come to another. A node that is alone keeps
	// them: they are told of the lag.
	ShedStreams bool
	// Heartbeat of streams. Zero: 15 s.
	Heartbeat time.Duration
	// Throttle of streams that ask for none. Zero: 100 ms; None: there is none.
	Throttle time.Duration
	// ReadInterval is the least mean time between two queries of one read
	// at-least a revision that several clients are after. Zero: 100 ms; None:
	// there is none.
	ReadInterval time.Duration

	// ReplayWindow and ReplayWindowBytes are how far the slot is kept behind,
	// whichever is less: how long after a restart clients are still told exactly what
	// changed. Postgres keeps that much WAL, and what 10 s bring. Zero: 60 s, 64 MiB.
	ReplayWindow      time.Duration
	ReplayWindowBytes int
	// ProbeInterval is how often the primary's position is read: half of it is
	// what an asynchronous commit is told later. Zero: 10 ms.
	ProbeInterval time.Duration
	// Linger is how long a busy replication stream, of thousands of commits a
	// second, is left to gather before it is read on, at most. Zero: 5 ms; None:
	// not at all.
	Linger time.Duration

	// CacheBytes bounds the answers that are kept. Zero: 64 MiB; None: none.
	CacheBytes int
	// MaxTopics bounds the topics whose last change is remembered. Zero: 1,000,000.
	MaxTopics int
	// MaxHotTopics bounds the topics that are counted while somebody measures with Hot;
	// nothing is counted else. Zero: 1,000.
	MaxHotTopics int
	// MaxStreams bounds open streams. Zero: 10,000.
	MaxStreams int
	// MaxStreamsPerCaller bounds those of one caller. Zero: half of MaxStreams;
	// None: no bound.
	MaxStreamsPerCaller int
	// Caller says whose request a stream is, for MaxStreamsPerCaller: an address,
	// say. Nil: nobody's, and there is no such bound.
	Caller func(*http.Request) string
	// MaxStreamsPerPrincipal bounds those of one principal, as far as Authenticate
	// knows them. Zero: half of MaxStreams; None: no bound.
	MaxStreamsPerPrincipal int
	// MaxRequests bounds the calls that are in a handler, or wait for one; streams
	// aside. Zero: 10,000.
	MaxRequests int
	// MaxRequestsPerPrincipal bounds those of one principal, as far as Authenticate
	// knows them. Zero: half of MaxRequests; None: no bound.
	MaxRequestsPerPrincipal int
	// MaxStreamTopics bounds the topics of one stream. Zero: 1,000.
	MaxStreamTopics int
	// MaxTopicBytes bounds the memory of all streams' topics. Zero: 256 MiB. One caller,
	// and one principal, whose streams are bounded has half of it.
	MaxTopicBytes int
	// MaxRequestBytes bounds a request's message. Zero: 4 MiB.
	MaxRequestBytes int
	// WriteTimeout bounds how long a reader may take for a frame of a stream. Zero:
	// 10 s.
	WriteTimeout time.Duration
	// MaxRead bounds a query that reads share. Zero: 30 s.
	MaxRead time.Duration
	// MaxWrite bounds one transaction of DB's InTx, from its first statement to the
	// answer to its COMMIT. Zero: 30 s.
	MaxWrite time.Duration
	// Drain bounds how long Run waits, when its context has ended, for streams to
	// take the goodbye. Zero: 5 s; None: they are cut.
	Drain time.Duration

	// AuditReads says which calls prove that they look into no table but those
	// that they declare: AuditSample (zero), AuditAll or AuditOff.
	AuditReads AuditMode

	// Explain has the answer of a read at-least a revision say what may have made its
	// caller ask: which commit, table and kind of change has told which of its topics
	// (the header Freshet-Cause). It is for looking for why clients read so often: all
	// who may read a topic learn names of tables, transaction ids and times of commits.
	Explain bool
	// MaxExplained bounds the changes that Explain remembers, the newest ones. Zero:
	// 10,000.
	MaxExplained int

	// TracerProvider gets spans (OpenTelemetry): one for each RPC but Watch, and of a
	// mutation one for each COMMIT of DB's InTx and one until streams are told of it.
	// The first refetches that follow, on this node, are spans of the same trace,
	// others have a link to it. Spans name procedures and revisions, never topics,
	// callers or messages. The provider's owner shuts it down, after Run. Nil:
	// nothing is traced.
	TracerProvider trace.TracerProvider
	// TrustTraces has the traceparent of a request (W3C Trace Context) decide what
	// trace its span is part of, and whether it is recorded: for nodes that only the
	// team's own services and proxies reach. Otherwise it is a link.
	TrustTraces bool
	// Logger; nil: slog.Default(). A message that comes again and again, in an outage
	// say, is told twenty times at once and then once in ten seconds, with how often it
	// was left out.
	Logger *slog.Logger
	// Registerer gets the node's metrics; each node needs one of its own
	// (prometheus.WrapRegistererWith makes some of one). Nil: nobody counts.
	Registerer prometheus.Registerer
	// OnReady is called once, when the node is ready for the first time. Nil: that
	// is logged.
	OnReady func()
}

// Defaults returns what the zero values stand for.
func Defaults() Config {
	return Config{
		Slot:              "freshet",
		NATSSubject:       "freshet",
		Publication:       Publication,
		Reauthorize:       time.Minute,
		ReplicaWait:       50 * time.Millisecond,
		MaxWait:           2 * time.Second,
		MaxSettle:         250 * time.Millisecond,
		MaxLag:            5 * time.Second,
		Heartbeat:         15 * time.Second,
		Throttle:          100 * time.Millisecond,
		ReadInterval:      100 * time.Millisecond,
		ReplayWindow:      time.Minute,
		ReplayWindowBytes: 64 << 20,
		ProbeInterval:     10 * time.Millisecond,
		Linger:            5 * time.Millisecond,
		CacheBytes:        64 << 20,
		MaxTopics:         1_000_000,
		MaxHotTopics:      1000,
		MaxStreams:        10_000,
		MaxRequests:       10_000,
		MaxStreamTopics:   1000,
		MaxTopicBytes:     256 << 20,
		MaxRequestBytes:   4 << 20,
		WriteTimeout:      10 * time.Second,
		MaxExplained:      10_000,
		MaxRead:           30 * time.Second,
		MaxWrite:          30 * time.Second,
		Drain:             5 * time.Second,
	}
}

// ConfigError says what is wrong with a field of a Config.
type ConfigError struct {
	Field string // its name
	Want  string // in words
	None  bool   // None is possible too
	Err   error  // why a file can't be used that it names, which may pass; nil: it isn't for a file
}

func (e *ConfigError) Error() string {
	or := ""
	if e.None {
		or = ", or None"
	}
	return fmt.Sprintf("server.Config.%s: want %s%s", e.Field, e.Want, or)
}

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// withDefaults returns c with its defaults filled in, or what is wrong with it:
// *ConfigErrors, joined.
func (c Config) withDefaults() (Config, error) {
	if c.DatabaseURL == "" && c.Connect == nil {
		return c, errors.New("there is no database URL: set server.Config.DatabaseURL or Connect")
	}
	var err error
	if c.Services, err = c.named(); err != nil {
		return c, err
	}
	d := Defaults()
	c.Slot = cmp.Or(c.Slot, d.Slot)
	c.Publication = cmp.Or(c.Publication, d.Publication)
	c.NATSSubject = cmp.Or(c.NATSSubject, d.NATSSubject)
	c.Logger = seldom.Logger(cmp.Or(c.Logger, slog.Default()))
	if err := checkBounds(&c, d); err != nil {
		return c, err
	}
	if c.MaxStreamsPerCaller == 0 {
		c.MaxStreamsPerCaller = (c.MaxStreams + 1) / 2
	}
	if c.MaxStreamsPerPrincipal == 0 {
		c.MaxStreamsPerPrincipal = (c.MaxStreams + 1) / 2
	}
	if c.MaxRequestsPerPrincipal == 0 {
		c.MaxRequestsPerPrincipal = (c.MaxRequests + 1) / 2
	}
	if c.DBRoleClaim != "" && c.Authenticate == nil {
		return c, &ConfigError{Field: "DBRoleClaim", Want: "nothing, where nobody is authenticated"}
	}
	if c.DBAnonymousRole != "" && c.DBRoleClaim == "" {
		return c, &ConfigError{Field: "DBAnonymousRole", Want: "nothing, where no claim names roles: then all run as one"}
	}
	if c.DBAnonymousRole == "none" {
		return c, &ConfigError{Field: "DBAnonymousRole", Want: "a role (none is Postgres's word for that of the connection)"}
	}
	if err := c.checkReplicas(); err != nil {
		return c, err
	}
	if err := c.checkNATS(); err != nil {
		return c, err
	}
	if !slotName.MatchString(c.Slot) || len(c.Slot) > setup.MaxSlotName {
		return c, &ConfigError{Field: "Slot", Want: fmt.Sprintf("1 to %d lower-case letters, digits and underscores, not %q", setup.MaxSlotName, c.Slot)}
	}
	if !publicationName.MatchString(c.Publication) {
		return c, &ConfigError{Field: "Publication", Want: fmt.Sprintf("1 to 63 lower-case letters, digits and underscores, the first no digit, not %q", c.Publication)}
	}
	return c, nil
}

const replicaURL = "a URL for each standby, as postgres://user:password@host:5432/name" //nolint:gosec // an example

// checkReplicas refuses what is no URL, and what metrics could not tell apart.
func (c Config) checkReplicas() error {
	seen := map[string]bool{}
	for _, url := range c.ReplicaURLs {
		if url == "" { // to pgx, whatever listens on this machine
			return &ConfigError{Field: "ReplicaURLs", Want: replicaURL + "; one is empty"}
		}
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return &ConfigError{Field: "ReplicaURLs", Want: fmt.Sprintf("%s: %v", replicaURL, err)} // pgx leaves the password out
		}
		at := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
		if seen[at] {
			return &ConfigError{Field: "ReplicaURLs", Want: "each standby once; " + at + " is there twice"}
		}
		seen[at] = true
	}
	return nil
}

// publicationName is what needs no quotes, wherever a publication is named.
var publicationName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// slotName is what Postgres takes.
var slotName = regexp.MustCompile(`^[a-z0-9_]+$`)

// checkBounds fills in d where c has zeros, and refuses what makes no sense.
func checkBounds(c *Config, d Config) error {
	const ms = time.Millisecond
	return errors.Join(
		bound("MaxWait", &c.MaxWait, d.MaxWait, ms, time.Hour, true),
		bound("Reauthorize", &c.Reauthorize, d.Reauthorize, 100*ms, 24*time.Hour, true),
		bound("MaxSettle", &c.MaxSettle, d.MaxSettle, ms, time.Hour, true),
		bound("MaxLag", &c.MaxLag, d.MaxLag, 100*ms, 24*time.Hour, false),
		bound("Heartbeat", &c.Heartbeat, d.Heartbeat, 100*ms, time.Hour, false),
		bound("Throttle", &c.Throttle, d.Throttle, ms, stream.MaxThrottle, true),
		bound("ReadInterval", &c.ReadInterval, d.ReadInterval, ms, time.Minute, true),
		bound("ReplayWindow", &c.ReplayWindow, d.ReplayWindow, time.Second, 24*time.Hour, false),
		bound("ReplayWindowBytes", &c.ReplayWindowBytes, d.ReplayWindowBytes, 1<<20, math.MaxInt, false),
		bound("ProbeInterval", &c.ProbeInterval, d.ProbeInterval, ms, time.Second, false),
		bound("Linger", &c.Linger, d.Linger, ms/1000, time.Second, true),
		bound("CacheBytes", &c.CacheBytes, d.CacheBytes, 1, math.MaxInt, true),
		bound("MaxTopics", &c.MaxTopics, d.MaxTopics, 1, math.MaxInt32, false),
		bound("MaxHotTopics", &c.MaxHotTopics, d.MaxHotTopics, 1, 1_000_000, false),
		bound("MaxExplained", &c.MaxExplained, d.MaxExplained, 1, math.MaxInt32, false),
		bound("MaxStreams", &c.MaxStreams, d.MaxStreams, 1, math.MaxInt32, false),
		bound("MaxStreamsPerCaller", &c.MaxStreamsPerCaller, 0, 1, math.MaxInt32, true),
		bound("MaxStreamsPerPrincipal", &c.MaxStreamsPerPrincipal, 0, 1, math.MaxInt32, true),
		bound("MaxRequests", &c.MaxRequests, d.MaxRequests, 1, math.MaxInt32, false),
		bound("MaxRequestsPerPrincipal", &c.MaxRequestsPerPrincipal, 0, 1, math.MaxInt32, true),
		bound("MaxStreamTopics", &c.MaxStreamTopics, d.MaxStreamTopics, 1, 1_000_000, false),
		bound("MaxTopicBytes", &c.MaxTopicBytes, d.MaxTopicBytes, 1<<20, math.MaxInt, false),
		bound("MaxRequestBytes", &c.MaxRequestBytes, d.MaxRequestBytes, 1<<10, 1<<30, false),
		bound("WriteTimeout", &c.WriteTimeout, d.WriteTimeout, 100*ms, time.Hour, false),
		bound("MaxRead", &c.MaxRead, d.MaxRead, ms, 24*time.Hour, false),
		bound("MaxWrite", &c.MaxWrite, d.MaxWrite, ms, 24*time.Hour, false),
		bound("Drain", &c.Drain, d.Drain, ms, time.Hour, true),
		bound("MaxConns", &c.MaxConns, 0, 1, 10_000, false),
		bound("ReplicaConns", &c.ReplicaConns, 0, 1, 10_000, false),
		bound("ReplicaWait", &c.ReplicaWait, d.ReplicaWait, ms, time.Minute, false),
	)
}

// bound sets a value that is zero to its default, and refuses one that isn't
// within from and to. With none, a value below zero is as good as None.
func bound[T time.Duration | int | int32](field string, value *T, otherwise, from, to T, none bool) error {
	switch {
	case *value == 0:
		*value = otherwise
		return nil
	case *value >= from && *value <= to, none && *value < 0:
		return nil
	}
	return &ConfigError{Field: field, Want: fmt.Sprintf("a value from %v to %v", from, to), None: none}
}
