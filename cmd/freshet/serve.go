package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/auth"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/server/messages/demo"
	"github.com/freshet-dev/freshet/store/pgembed"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/web"
)

type serveCmd struct {
	DatabaseURL string `group:"Database" placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The primary: postgres://user:password@host:5432/name; of several hosts (a:5432,b:5432) it is found. Unset: a private Postgres under --data-dir."`
	CaptureURL  string `group:"Database" placeholder:"URL" help:"Where the feed connects, if --database-url goes through a pooler. Unset: --database-url."`
	Migrate     bool   `group:"Database" default:"true" negatable:"" help:"Run pending migrations and set up publication and replica identities first."`
	Slot        string `group:"Database" default:"${slot}" help:"Replication slot, the same for all nodes of a database."`
	Publication string `group:"Database" default:"${publication}" help:"Publication. All nodes of a database share one."`
	MaxConns    int32  `group:"Database" default:"0" help:"Connections of the pool. 0: the number of CPUs, at least 4."`

	ReplicaURL   []string      `group:"Database" sep:"none" placeholder:"URL" help:"Streaming standby of the primary, for reads at-least a revision that it has replayed. Several, one URL for each."`
	ReplicaConns int32         `group:"Database" default:"0" help:"Connections of each replica's pool. 0: the number of CPUs, at least 4."`
	ReplicaWait  time.Duration `group:"Database" default:"${replica_wait}" help:"Longest wait of a read for a replica, before it runs on the primary."`

	natsFlags
	NATSFallback bool `name:"nats-fallback" group:"Fleet" help:"Capture by itself, which takes a slot and a walsender, when NATS has been gone for longer than --max-lag. Otherwise the node isn't ready then."`

	DataDir     string `group:"Database" default:".freshet" type:"path" help:"Folder of the private Postgres. Nodes with the same folder, each on a port of its own, share it."`
	PostgresBin string `group:"Database" placeholder:"DIR" type:"path" help:"Folder with initdb and postgres. Unset: the system's, then those under web/node_modules."`

	Addr          string   `group:"Network" default:"${addr}" help:"Address of RPC, stream and page."`
	AdminAddr     string   `group:"Network" default:"127.0.0.1:9090" help:"Address of metrics and pprof; empty: none. Unset, on the private Postgres: the next free port, if this one is taken. Beyond loopback it takes a token (--oidc-issuer, --jwt-keys) that --grants gives it to (admin: true); health doesn't."`
	Insecure      bool     `group:"Network" help:"Allow addresses beyond loopback though nobody is kept out: of --addr, and names of --host, unless callers are authenticated; of --admin-addr, where nobody is asked then."`
	Host          []string `group:"Network" placeholder:"NAME" help:"Name that requests may be addressed to, besides those of loopback: app.example.com. Several, or * for all."`
	AllowedOrigin []string `group:"Network" placeholder:"ORIGIN" help:"Origin of pages elsewhere that may call us (CORS): https://app.example.com. Several, or * for all."`
	TLSCert       string   `group:"Network" name:"tls-cert" placeholder:"FILE" type:"path" help:"Certificate of --addr in PEM, with those that lead to its root. It is read again when it changes, and on SIGHUP. Unset: no TLS."`
	TLSKey        string   `group:"Network" name:"tls-key" placeholder:"FILE" type:"path" help:"Its key, in PEM."`
	TrustTraces   bool     `group:"Network" help:"Let the traceparent of requests decide what trace they are part of, and whether it is recorded: where only services and proxies of one's own call. Otherwise it is a link."`
	TrustedProxy  []string `group:"Network" placeholder:"NETWORK" help:"Proxy in front whose X-Forwarded-For says who calls: an address or a network, such as 10.0.0.0/8. Several."`

	OIDCIssuer    []string `group:"Access" name:"oidc-issuer" placeholder:"URL" help:"OpenID Connect provider whose tokens say who calls: https://id.example.com. Several."`
	JWTKeys       string   `group:"Access" name:"jwt-keys" placeholder:"FILE" type:"path" help:"Public keys (PEM or JWKS) of whoever else issues tokens. It is read again when it changes, and on SIGHUP."`
	JWTAudience   []string `group:"Access" name:"jwt-audience" placeholder:"NAME" help:"What a token's aud has to be, or to hold; required with either. Several."`
	AuthCookie    string   `group:"Access" placeholder:"NAME" help:"Cookie that may hold the token, for browsers. Requests by cookie that may change something have to come from our own origin."`
	AuthAnonymous bool     `group:"Access" help:"Let in those who send no token, as nobody: for what --grants allows to everybody. A bad token is refused all the same."`

	Grants          string        `group:"Access" placeholder:"FILE" type:"path" help:"Grants file: which topics callers may read and write. It is read again when it changes, and on SIGHUP. Unset: everybody may everything."`
	Reauthorize     time.Duration `group:"Access" default:"${reauthorize}" help:"How often it is asked again whether each open stream may go on; 0: only when grants change, or a subject is revoked."`
	DBRoleClaim     string        `name:"db-role-claim" group:"Access" placeholder:"NAME" help:"Claim that says as which role of the database a caller's statements run. Unset: all run as that of --database-url."`
	DBAnonymousRole string        `name:"db-anonymous-role" group:"Access" placeholder:"ROLE" help:"Role of callers without that claim. Unset: they are refused."`

	MaxWait     time.Duration `group:"Freshness" default:"${max_wait}" help:"Longest wait of a request at-least a revision; 0: none."`
	MaxSettle   time.Duration `group:"Freshness" default:"${max_settle}" help:"Longest time that the answer of a write is held back until reads elsewhere contain it; 0: none."`
	MaxLag      time.Duration `group:"Freshness" default:"${max_lag}" help:"Lag from which clients are told that this node is behind."`
	ShedStreams bool          `group:"Freshness" help:"Send streams away while this node has not been ready for longer than --max-lag. For nodes behind a balancer that asks /readyz: clients then come to another one."`
	Heartbeat   time.Duration `group:"Freshness" default:"${heartbeat}" help:"Interval of the stream's heartbeats."`
	Throttle    time.Duration `group:"Freshness" default:"${throttle}" help:"Least time between two notices of a stream that doesn't say itself; 0: none."`

	ReadInterval time.Duration `group:"Freshness" default:"${read_interval}" help:"Least mean time between two queries of one read at-least a revision that several clients are after, after a burst of ten; 0: none."`

	ReplayWindow      time.Duration `group:"Freshness" default:"${replay_window}" help:"How long after a restart clients are still told exactly what changed; Postgres keeps that much WAL."`
	ReplayWindowBytes int           `group:"Freshness" default:"${replay_window_bytes}" help:"The same as WAL; whichever is less."`

	CacheBytes                int           `group:"Limits" default:"${cache_bytes}" help:"Size of the answers that are kept until their topics change; 0: none."`
	MaxTopics                 int           `group:"Limits" default:"${max_topics}" help:"Topics whose last change is remembered."`
	MaxHotTopics              int           `group:"Limits" default:"${max_hot_topics}" help:"Topics that are counted while freshet doctor --hot measures."`
	MaxConnections            int           `group:"Limits" default:"${max_connections}" help:"Open connections, streams among them; never more than the limit of open files leaves."`
	MaxConnectionsPerAddress  *int          `group:"Limits" placeholder:"HALF" help:"Open connections from one address (of IPv6 a /64), trusted proxies excepted; 0: no bound. Unset: half of --max-connections."`
	MaxStreams                int           `group:"Limits" default:"${max_streams}" help:"Open streams."`
	MaxStreamsPerAddress      *int          `group:"Limits" placeholder:"HALF" help:"Open streams of one address; 0: no bound. Unset: half of --max-streams."`
	MaxStreamsPerPrincipal    *int          `group:"Limits" placeholder:"HALF" help:"Open streams of one principal (issuer and subject of a token); 0: no bound. Unset: half of --max-streams."`
	MaxRequests               int           `group:"Limits" default:"${max_requests}" help:"Calls under way, streams aside."`
	MaxRequestsPerAddress     int           `group:"Limits" default:"${max_requests_per_address}" help:"Requests under way from one address (of IPv6 a /64), streams aside; 0: no bound."`
	MaxRequestsPerPrincipal   *int          `group:"Limits" placeholder:"HALF" help:"Calls under way of one principal, streams aside; 0: no bound. Unset: half of --max-requests."`
	MaxAuthFailuresPerAddress int           `group:"Limits" default:"${max_auth_failures_per_address}" help:"Tokens from one address (of IPv6 a /64) that may turn out bad in a second, after ten times as many at once; those that are known to be good don't count. 0: no bound."`
	MaxStreamTopics           int           `group:"Limits" default:"${max_stream_topics}" help:"Topics of one stream."`
	MaxTopicBytes             int           `group:"Limits" default:"${max_topic_bytes}" help:"Memory of all open streams' topics, about."`
	MaxWrite                  time.Duration `group:"Limits" default:"${max_write}" help:"Longest time that a write's transaction may take."`
	MaxRequestBytes           int           `group:"Limits" default:"${max_request_bytes}" help:"Size of a request."`
	Drain                     time.Duration `group:"Limits" default:"${drain}" help:"Longest time that a shutdown takes for those who are being served. By SIGTERM the first half of it serves on, while /readyz says that traffic should go elsewhere; 0: none."`

	Explain      bool `group:"Development" help:"Have answers say in a header, Freshet-Cause, what made their caller ask again: commit, table, kind of change. All who may read a topic see it."`
	MaxExplained int  `group:"Development" default:"${max_explained}" help:"With --explain: changes that are remembered."`

	DemoAuth      bool          `group:"Development" help:"Have three demo accounts, without passwords, sign in to the page: ada, bob and guest, each with other grants. For this machine alone."`
	DemoTokenLife time.Duration `group:"Development" default:"${demo_token_life}" help:"How long a token of theirs is good; the page renews it before."`
	AuditReads    string        `group:"Development" enum:"sample,all,off" default:"sample" help:"Which reads prove that they look into no table but those they declare (two statements more): sample, the first of each procedure and one in 10,000, reports what it finds; all fails such reads; off."`

	granted *grants.File // nil: there is none, or Run has not come to it
}

// Help is printed by `freshet serve --help`.
func (*serveCmd) Help() string {
	return `Serves until it is stopped by SIGINT or SIGTERM. Logs one line with the URL when it is ready; /readyz of the admin port says why it isn't.

Try it:
  curl -N 'http://127.0.0.1:8080/events?topic=messages'`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, logger *slog.Logger, parsed *kong.Context, s *settings) (err error) {
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var parts service.Group
	defer func() {
		// The server has a timeout of its own; Postgres gets what it needs
		// for an orderly stop.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Drain+time.Minute)
		defer cancel()
		err = errors.Join(err, parts.Stop(stopping))
	}()
	withdrawn := make(withdrawals, 1)
	accounts, err := c.openDemo(ctx, logger, withdrawn.note)
	if err != nil {
		return err
	}
	at := c.front(logger)
	at.AdminSpares = c.adminSpares(parsed, s)
	accounts.serve(&at)
	f, err := front.New(at)
	if err != nil {
		return err
	}
	cfg := c.node(logger)
	traces, err := openTracing(ctx, logger, c.Slot)
	if err != nil {
		return err
	}
	if traces != nil {
		cfg.TracerProvider = traces
		parts.Defer("traces", traces.Shutdown)
	}
	cfg.Caller, cfg.Registerer = f.Caller, f.Registry()
	cfg.OnReady = f.OnReady
	var prepare func(context.Context) error
	if c.DatabaseURL == "" {
		p := newPrivatePostgres(pgembed.Config{DataDir: c.DataDir, Binaries: c.PostgresBin, Logger: logger}, ctx.Done())
		cfg.Connect, prepare = p.connect, p.start
		parts.Go("private Postgres", p.run)
	}
	who, err := c.openAuth(logger, f.Registry(), f.Caller)
	if err != nil {
		return err
	}
	if who != nil {
		cfg.Authenticate = who.Authenticate
	}
	c.granted, err = c.openGrants(logger, f.Registry(), withdrawn.note)
	if err != nil {
		return err
	}
	if c.granted != nil {
		cfg.Authorize = accounts.authorizing(server.Grants(c.granted))
	}
	node, err := server.New(cfg)
	if err != nil {
		return inFlags(err)
	}
	if c.granted != nil {
		parts.Go("grants", c.granted.Run)
		parts.Go("withdrawn grants", func(ctx context.Context) error { return withdrawn.reauthorize(ctx, node) })
	}
	var reload []func(context.Context) error
	if who != nil {
		parts.Go("keys", accounts.following(who.Run))
		reload = append(reload, who.Reload)
	}
	if c.granted != nil {
		reload = append(reload, c.granted.Reload)
	}
	if c.TLSCert != "" {
		reload = append(reload, f.ReloadCertificate)
	}
	for _, remark := range strangers(parsed.Model) {
		logger.InfoContext(ctx, remark)
	}
	switch {
	case !c.keepsOut() && !c.Insecure:
		logger.InfoContext(ctx, "nobody is kept out: serving this machine only (--oidc-issuer or --jwt-keys says who may call; --insecure serves everybody)")
	case who != nil && c.granted == nil:
		logger.InfoContext(ctx, "everybody whose token is good may read and write everything (--grants says who may what)")
	}
	parts.Go("hang-ups", func(ctx context.Context) error { return onHangUp(ctx, logger, reload, hangUp) })
	parts.Go("server", func(ctx context.Context) error {
		return f.Run(ctx, node, accounts.preparing(prepare), messageService(node))
	})
	if err := parts.Wait(ctx); err != nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errTerminated) {
		f.Retire(context.WithoutCancel(ctx), node)
	}
	return nil
}

// adminSpares is how many ports after the default one are tried for metrics: on the
// private Postgres several nodes on one machine have the same flags but for --addr.
// Elsewhere somebody may scrape the port, and is to be told if it can't be had.
func (c *serveCmd) adminSpares(parsed *kong.Context, s *settings) int {
	if c.DatabaseURL == "" && s.isDefault(parsed, "admin-addr") {
		return 9
	}
	return 0
}

// serveDefaults are those of front and server, for the flags.
func serveDefaults() kong.Vars {
	d, at, who := server.Defaults(), front.Defaults(), auth.Defaults()
	return kong.Vars{
		"slot":                          d.Slot,
		"publication":                   d.Publication,
		"nats_subject":                  d.NATSSubject,
		"addr":                          at.Addr,
		"replica_wait":                  d.ReplicaWait.String(),
		"max_wait":                      d.MaxWait.String(),
		"max_settle":                    d.MaxSettle.String(),
		"max_lag":                       d.MaxLag.String(),
		"heartbeat":                     d.Heartbeat.String(),
		"throttle":                      d.Throttle.String(),
		"reauthorize":                   d.Reauthorize.String(),
		"read_interval":                 d.ReadInterval.String(),
		"replay_window":                 d.ReplayWindow.String(),
		"replay_window_bytes":           strconv.Itoa(d.ReplayWindowBytes),
		"cache_bytes":                   strconv.Itoa(d.CacheBytes),
		"max_topics":                    strconv.Itoa(d.MaxTopics),
		"max_hot_topics":                strconv.Itoa(d.MaxHotTopics),
		"max_connections":               strconv.Itoa(at.MaxConnections),
		"max_streams":                   strconv.Itoa(d.MaxStreams),
		"max_requests":                  strconv.Itoa(d.MaxRequests),
		"max_requests_per_address":      strconv.Itoa(at.MaxRequestsPerAddress),
		"max_auth_failures_per_address": strconv.Itoa(who.MaxFailuresPerCaller),
		"max_stream_topics":             strconv.Itoa(d.MaxStreamTopics),
		"max_topic_bytes":               strconv.Itoa(d.MaxTopicBytes),
		"max_explained":                 strconv.Itoa(d.MaxExplained),
		"max_write":                     d.MaxWrite.String(),
		"max_request_bytes":             strconv.Itoa(d.MaxRequestBytes),
		"drain":                         at.Drain.String(),
		"demo_token_life":               demo.Life.String(),
	}
}

// given is a flag's value as the server takes it: a zero that somebody wrote is
// none, not the default.
func given[T ~int | ~int64](flag T) T {
	if flag == 0 {
		return server.None
	}
	return flag
}

// perhaps is the same for a flag that may be left out.
func perhaps(flag *int) int {
	if flag == nil {
		return 0
	}
	return given(*flag)
}

// front is what the flags say to package front.
func (c *serveCmd) front(logger *slog.Logger) front.Config {
	at := front.Config{
		Addr:                     c.Addr,
		AdminAddr:                c.AdminAddr,
		Authenticated:            c.keepsOut(),
		Insecure:                 c.Insecure,
		Hosts:                    c.Host,
		AllowedOrigins:           c.AllowedOrigin,
		TLSCert:                  c.TLSCert,
		TLSKey:                   c.TLSKey,
		TrustedProxies:           c.TrustedProxy,
		Page:                     web.Handler(""),
		MaxConnections:           given(c.MaxConnections),
		MaxConnectionsPerAddress: perhaps(c.MaxConnectionsPerAddress),
		MaxRequestsPerAddress:    given(c.MaxRequestsPerAddress),
		Reserved:                 int(c.MaxConns) + len(c.ReplicaURL)*int(c.ReplicaConns),
		MaxStreams:               c.MaxStreams,
		MaxRequestBytes:          given(c.MaxRequestBytes),
		Drain:                    given(c.Drain),
		Logger:                   logger,
	}
	if c.Grants != "" {
		at.Administer = c.administer
	}
	return at
}

// migrate makes the message service's tables, but not in the database of another one.
func (c *serveCmd) migrate(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := setup.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	p, err := contractFlags{}.program()
	if err != nil {
		return err
	}
	others, err := p.others(ctx, conn, c.Publication)
	if err != nil {
		return err
	}
	if others != "" {
		return errors.New(others + "serve brings the message service, with tables of its own: a service of yours is a program of yours (server.New); to have both in one database, give a --publication and a --slot of its own")
	}
	return messages.MigrateConfig(ctx, config)
}

// node is what they say to package server.
func (c *serveCmd) node(logger *slog.Logger) server.Config {
	cfg := server.Config{
		DatabaseURL:         c.DatabaseURL,
		CaptureURL:          c.CaptureURL,
		Services:            services(),
		SkipMigrate:         !c.Migrate,
		Migrate:             c.migrate,
		Check:               messages.VerifyConfig,
		Slot:                c.Slot,
		Publication:         c.Publication,
		MaxConns:            c.MaxConns,
		ReplicaURLs:         c.ReplicaURL,
		ReplicaConns:        c.ReplicaConns,
		ReplicaWait:         c.ReplicaWait,
		DBRoleClaim:         c.DBRoleClaim,
		DBAnonymousRole:     c.DBAnonymousRole,
		MaxWait:             given(c.MaxWait),
		MaxSettle:           given(c.MaxSettle),
		MaxLag:              given(c.MaxLag),
		ShedStreams:         c.ShedStreams,
		Heartbeat:           given(c.Heartbeat),
		Throttle:            given(c.Throttle),
		ReadInterval:        given(c.ReadInterval),
		ReplayWindow:        given(c.ReplayWindow),
		ReplayWindowBytes:   given(c.ReplayWindowBytes),
		CacheBytes:          given(c.CacheBytes),
		MaxTopics:           given(c.MaxTopics),
		MaxHotTopics:        given(c.MaxHotTopics),
		MaxStreams:          given(c.MaxStreams),
		MaxStreamsPerCaller: perhaps(c.MaxStreamsPerAddress),

		MaxStreamsPerPrincipal:  perhaps(c.MaxStreamsPerPrincipal),
		MaxRequests:             given(c.MaxRequests),
		MaxRequestsPerPrincipal: perhaps(c.MaxRequestsPerPrincipal),

		MaxStreamTopics: given(c.MaxStreamTopics),
		MaxTopicBytes:   given(c.MaxTopicBytes),
		MaxRequestBytes: given(c.MaxRequestBytes),
		MaxWrite:        given(c.MaxWrite),
		Reauthorize:     given(c.Reauthorize),
		Drain:           server.None, // the front has drained what there was
		TrustTraces:     c.TrustTraces,
		Explain:         c.Explain,
		MaxExplained:    given(c.MaxExplained),
		AuditReads:      intercept.AuditMode(c.AuditReads),
		Logger:          logger,
	}
	c.configure(&cfg)
	cfg.NATSFallback = c.NATSFallback
	return cfg
}
