package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store/pgembed"
	"github.com/freshet-dev/freshet/web"
)

type serveCmd struct {
	DatabaseURL string `group:"Database" placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The primary: postgres://user:password@host:5432/name. Unset: a private Postgres under --data-dir."`
	CaptureURL  string `group:"Database" placeholder:"URL" help:"Where the feed connects, if --database-url goes through a pooler. Unset: --database-url."`
	Migrate     bool   `group:"Database" default:"true" negatable:"" help:"Run pending migrations and set up publication and replica identities first."`
	Slot        string `group:"Database" default:"${slot}" help:"Replication slot. Nodes that serve side by side need one each."`
	MaxConns    int32  `group:"Database" default:"0" help:"Connections of the pool. 0: the number of CPUs, at least 4."`
	DataDir     string `group:"Database" default:".freshet" type:"path" help:"Folder of the private Postgres."`
	PostgresBin string `group:"Database" placeholder:"DIR" type:"path" help:"Folder with initdb and postgres. Unset: the system's, then those under web/node_modules."`

	Addr          string   `group:"Network" default:"${addr}" help:"Address of RPC, stream and page."`
	AdminAddr     string   `group:"Network" default:"127.0.0.1:9090" help:"Address of metrics and pprof; empty: none."`
	Insecure      bool     `group:"Network" help:"Allow addresses beyond loopback though nothing authenticates callers."`
	Host          []string `group:"Network" placeholder:"NAME" help:"Name that requests may be addressed to, besides those of loopback: app.example.com. Several, or * for all."`
	AllowedOrigin []string `group:"Network" placeholder:"ORIGIN" help:"Origin of pages elsewhere that may call us (CORS): https://app.example.com. Several, or * for all."`
	TrustedProxy  []string `group:"Network" placeholder:"NETWORK" help:"Proxy in front whose X-Forwarded-For says who calls: an address or a network, such as 10.0.0.0/8. Several."`

	MaxWait     time.Duration `group:"Freshness" default:"${max_wait}" help:"Longest wait of a request at-least a revision; 0: none."`
	MaxSettle   time.Duration `group:"Freshness" default:"${max_settle}" help:"Longest time that the answer of a write is held back until reads elsewhere contain it; 0: none."`
	MaxLag      time.Duration `group:"Freshness" default:"${max_lag}" help:"Lag from which clients are told that this node is behind."`
	ShedStreams bool          `group:"Freshness" help:"Send streams away while this node has not been ready for longer than --max-lag. For nodes behind a balancer that asks /readyz: clients then come to another one."`
	Heartbeat   time.Duration `group:"Freshness" default:"${heartbeat}" help:"Interval of the stream's heartbeats."`
	Throttle    time.Duration `group:"Freshness" default:"${throttle}" help:"Least time between two notices of a stream that doesn't say itself; 0: none."`

	ReadInterval time.Duration `group:"Freshness" default:"${read_interval}" help:"Least mean time between two queries of one read at-least a revision that several clients are after, after a burst of ten; 0: none."`

	ReplayWindow      time.Duration `group:"Freshness" default:"${replay_window}" help:"How long after a restart clients are still told exactly what changed; Postgres keeps that much WAL."`
	ReplayWindowBytes int           `group:"Freshness" default:"${replay_window_bytes}" help:"The same as WAL; whichever is less."`
	ProbeInterval     time.Duration `group:"Freshness" default:"${probe_interval}" help:"How often the primary's position is read: half of it is what an asynchronous commit is told later."`
	Linger            time.Duration `group:"Freshness" default:"${linger}" help:"Longest time that a busy replication stream (thousands of commits a second) is left to gather before it is read on: capture then takes less from those who write, and tells as much later; 0: none."`

	CacheBytes               int           `group:"Limits" default:"${cache_bytes}" help:"Size of the answers that are kept until their topics change; 0: none."`
	MaxTopics                int           `group:"Limits" default:"${max_topics}" help:"Topics whose last change is remembered."`
	MaxConnections           int           `group:"Limits" default:"${max_connections}" help:"Open connections, streams among them; never more than the limit of open files leaves."`
	MaxConnectionsPerAddress *int          `group:"Limits" placeholder:"HALF" help:"Open connections from one address (of IPv6 a /64), trusted proxies excepted; 0: no bound. Unset: half of --max-connections."`
	MaxStreams               int           `group:"Limits" default:"${max_streams}" help:"Open streams."`
	MaxStreamsPerAddress     *int          `group:"Limits" placeholder:"HALF" help:"Open streams of one address; 0: no bound. Unset: half of --max-streams."`
	MaxStreamTopics          int           `group:"Limits" default:"${max_stream_topics}" help:"Topics of one stream."`
	MaxTopicBytes            int           `group:"Limits" default:"${max_topic_bytes}" help:"Memory of all open streams' topics, about."`
	WriteTimeout             time.Duration `group:"Limits" default:"${write_timeout}" help:"Longest time that a reader may take for a frame of a stream, or for 64 KiB of an answer, before it is cut."`
	MaxRead                  time.Duration `group:"Limits" default:"${max_read}" help:"Longest time that a query which reads share may take."`
	MaxWrite                 time.Duration `group:"Limits" default:"${max_write}" help:"Longest time that a write's transaction may take."`
	MaxRequestBytes          int           `group:"Limits" default:"${max_request_bytes}" help:"Size of a request."`
	MaxHeaderBytes           int           `group:"Limits" default:"${max_header_bytes}" help:"Size of a request's headers."`
	ReadTimeout              time.Duration `group:"Limits" default:"${read_timeout}" help:"Longest time that a request, headers and body, may take to arrive."`
	Drain                    time.Duration `group:"Limits" default:"${drain}" help:"Longest time that a shutdown takes for those who are being served. By SIGTERM the first half of it serves on, while /readyz says that traffic should go elsewhere; 0: none."`

	AuditReads string `group:"Development" enum:"sample,all,off" default:"sample" help:"Which reads prove that they look into no table but those they declare (two statements more): sample, the first of each procedure and one in 10,000, reports what it finds; all fails such reads; off."`
}

// Help is printed by `freshet serve --help`.
func (*serveCmd) Help() string {
	return `Serves until it is stopped by SIGINT or SIGTERM. Logs one line with the URL when it is ready; /readyz says why it isn't.

Try it:
  curl -N 'http://127.0.0.1:8080/events?topic=messages'`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, logger *slog.Logger) (err error) {
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
	cfg := c.config(logger)
	if c.DatabaseURL == "" {
		p := newPrivatePostgres(pgembed.Config{DataDir: c.DataDir, Binaries: c.PostgresBin, Logger: logger})
		cfg.Database = p.start
		parts.Go("private Postgres", p.run)
	}
	s, err := server.New(cfg, services()...)
	if err != nil {
		return err
	}
	if !c.Insecure {
		logger.InfoContext(ctx, "nothing authenticates callers: serving this machine only (--insecure serves others)")
	}
	parts.Go("hang-ups", func(ctx context.Context) error { return onHangUp(ctx, logger, hangUp) })
	parts.Go("server", s.Run)
	if err := parts.Wait(ctx); err != nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errTerminated) {
		s.Retire(context.WithoutCancel(ctx))
	}
	return nil
}

// onHangUp does what SIGHUP asks for. It asks a service to read its configuration
// anew, of which there is none in files (passwords are read at every connect). But
// it also says that the terminal is gone: then stop is called. Under nohup nothing
// happens.
func onHangUp(ctx context.Context, logger *slog.Logger, stop func()) error {
	if signal.Ignored(syscall.SIGHUP) {
		<-ctx.Done()
		return nil
	}
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	inTerminal := haveTerminal()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangUps:
		}
		if inTerminal && !haveTerminal() {
			stop()
			continue
		}
		logger.InfoContext(ctx, "SIGHUP: there is nothing to reload; serving on")
	}
}

// haveTerminal reports whether the process has a controlling terminal, tty(4).
func haveTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	return tty.Close() == nil
}

// serveDefaults are server.Config's, for the flags.
func serveDefaults() kong.Vars {
	d := server.Defaults()
	return kong.Vars{
		"slot":                d.Slot,
		"addr":                d.Addr,
		"max_wait":            d.MaxWait.String(),
		"max_settle":          d.MaxSettle.String(),
		"max_lag":             d.MaxLag.String(),
		"heartbeat":           d.Heartbeat.String(),
		"throttle":            d.Throttle.String(),
		"read_interval":       d.ReadInterval.String(),
		"replay_window":       d.ReplayWindow.String(),
		"replay_window_bytes": strconv.Itoa(d.ReplayWindowBytes),
		"probe_interval":      d.ProbeInterval.String(),
		"linger":              d.Linger.String(),
		"cache_bytes":         strconv.Itoa(d.CacheBytes),
		"max_topics":          strconv.Itoa(d.MaxTopics),
		"max_connections":     strconv.Itoa(d.MaxConnections),
		"max_streams":         strconv.Itoa(d.MaxStreams),
		"max_stream_topics":   strconv.Itoa(d.MaxStreamTopics),
		"max_topic_bytes":     strconv.Itoa(d.MaxTopicBytes),
		"write_timeout":       d.WriteTimeout.String(),
		"max_read":            d.MaxRead.String(),
		"max_write":           d.MaxWrite.String(),
		"max_request_bytes":   strconv.Itoa(d.MaxRequestBytes),
		"max_header_bytes":    strconv.Itoa(d.MaxHeaderBytes),
		"read_timeout":        d.ReadTimeout.String(),
		"drain":               d.Drain.String(),
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

func (c *serveCmd) config(logger *slog.Logger) server.Config {
	return server.Config{
		DatabaseURL:              c.DatabaseURL,
		CaptureURL:               c.CaptureURL,
		SkipMigrate:              !c.Migrate,
		Slot:                     c.Slot,
		MaxConns:                 c.MaxConns,
		Addr:                     c.Addr,
		AdminAddr:                c.AdminAddr,
		Insecure:                 c.Insecure,
		Hosts:                    c.Host,
		AllowedOrigins:           c.AllowedOrigin,
		TrustedProxies:           c.TrustedProxy,
		Page:                     web.Handler(),
		MaxWait:                  given(c.MaxWait),
		MaxSettle:                given(c.MaxSettle),
		MaxLag:                   given(c.MaxLag),
		ShedStreams:              c.ShedStreams,
		CacheBytes:               given(c.CacheBytes),
		MaxTopics:                given(c.MaxTopics),
		Heartbeat:                given(c.Heartbeat),
		Throttle:                 given(c.Throttle),
		ReplayWindow:             given(c.ReplayWindow),
		ReplayWindowBytes:        given(c.ReplayWindowBytes),
		ProbeInterval:            given(c.ProbeInterval),
		Linger:                   given(c.Linger),
		MaxConnections:           given(c.MaxConnections),
		MaxConnectionsPerAddress: perhaps(c.MaxConnectionsPerAddress),
		MaxStreams:               given(c.MaxStreams),
		MaxStreamsPerAddress:     perhaps(c.MaxStreamsPerAddress),
		MaxStreamTopics:          given(c.MaxStreamTopics),
		MaxTopicBytes:            given(c.MaxTopicBytes),
		WriteTimeout:             given(c.WriteTimeout),
		MaxRead:                  given(c.MaxRead),
		MaxWrite:                 given(c.MaxWrite),
		ReadInterval:             given(c.ReadInterval),
		MaxRequestBytes:          given(c.MaxRequestBytes),
		MaxHeaderBytes:           given(c.MaxHeaderBytes),
		ReadTimeout:              given(c.ReadTimeout),
		Drain:                    given(c.Drain),
		AuditReads:               intercept.AuditMode(c.AuditReads),
		Logger:                   logger,
		OnReady:                  func(url string) { logger.Info("ready", "url", url) },
	}
}
