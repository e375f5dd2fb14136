package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/freshet-dev/freshet/internal/service"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store/pgembed"
	"github.com/freshet-dev/freshet/web"
)

type serveCmd struct {
	DatabaseURL string `group:"Database" placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The primary: postgres://user:password@host:5432/name. Unset: a private Postgres under --data-dir."`
	CaptureURL  string `group:"Database" placeholder:"URL" help:"Where the feed connects, if --database-url goes through a pooler. Unset: --database-url."`
	Migrate     bool   `group:"Database" default:"true" negatable:"" help:"Run pending migrations and set up publication and replica identities first."`
	Slot        string `group:"Database" default:"freshet" help:"Replication slot. Nodes that serve side by side need one each."`
	MaxConns    int32  `group:"Database" default:"0" help:"Connections of the pool. 0: the number of CPUs, at least 4."`
	DataDir     string `group:"Database" default:".freshet" type:"path" help:"Folder of the private Postgres."`
	PostgresBin string `group:"Database" placeholder:"DIR" type:"path" help:"Folder with initdb and postgres. Unset: the system's, then those under web/node_modules."`

	Addr          string   `group:"Network" default:"127.0.0.1:8080" help:"Address of RPC, stream and page."`
	AdminAddr     string   `group:"Network" default:"127.0.0.1:9090" help:"Address of metrics and pprof; empty: none."`
	Insecure      bool     `group:"Network" help:"Allow addresses beyond loopback though nothing authenticates callers."`
	AllowedOrigin []string `group:"Network" placeholder:"ORIGIN" help:"Origin of pages elsewhere that may call us (CORS): https://app.example.com. Several, or * for all."`

	MaxWait   time.Duration `group:"Freshness" default:"2s" help:"Longest wait of a request at-least a revision."`
	MaxSettle time.Duration `group:"Freshness" default:"250ms" help:"Longest time that the answer of a write is held back until reads elsewhere contain it."`
	MaxLag    time.Duration `group:"Freshness" default:"5s" help:"Lag from which clients are told that this node is behind."`
	Heartbeat time.Duration `group:"Freshness" default:"15s" help:"Interval of the stream's heartbeats."`
	Throttle  time.Duration `group:"Freshness" default:"100ms" help:"Least time between two notices of a stream that asks for none itself."`

	ReadInterval time.Duration `group:"Freshness" default:"100ms" help:"Least mean time between two queries of one read at-least a revision that several clients are after, after a burst of ten; less than 0: none."`

	ReplayWindow      time.Duration `group:"Freshness" default:"60s" help:"How long after a restart clients are still told exactly what changed; Postgres keeps that much WAL."`
	ReplayWindowBytes uint64        `group:"Freshness" default:"67108864" help:"The same as WAL; whichever is less."`
	ProbeInterval     time.Duration `group:"Freshness" default:"10ms" help:"How often the primary's position is read: half of it is what an asynchronous commit is told later."`
	Linger            time.Duration `group:"Freshness" default:"5ms" help:"Longest time that a busy replication stream (thousands of commits a second) is left to gather before it is read on: capture then takes less from those who write, and tells as much later; less than 0: none."`

	CacheBytes        int           `group:"Limits" default:"67108864" help:"Size of the answers that are kept until their topics change; -1: none."`
	MaxTopics         int           `group:"Limits" default:"1000000" help:"Topics whose last change is remembered."`
	MaxStreams        int           `group:"Limits" default:"10000" help:"Open streams."`
	MaxStreamTopics   int           `group:"Limits" default:"1000" help:"Topics of one stream."`
	WriteTimeout      time.Duration `group:"Limits" default:"10s" help:"Longest time that a stream's reader may take for a frame before it is cut."`
	MaxRead           time.Duration `group:"Limits" default:"30s" help:"Longest time that a query which reads share may take."`
	MaxRequestBytes   int           `group:"Limits" default:"4194304" help:"Size of a request."`
	MaxHeaderBytes    int           `group:"Limits" default:"65536" help:"Size of a request's headers."`
	ReadHeaderTimeout time.Duration `group:"Limits" default:"10s" help:"Longest time that a request's headers may take."`
	ShutdownTimeout   time.Duration `group:"Limits" default:"10s" help:"Longest time that a shutdown waits for running requests."`

	AuditReads bool `group:"Development" help:"Have every read prove that it looks into no table but those it declares. Costs two statements per read."`
}

// Help is printed by `freshet serve --help`.
func (*serveCmd) Help() string {
	return `Serves until it is stopped by SIGINT or SIGTERM. Logs one line with the URL when it is ready; /readyz says why it isn't.

Try it:
  curl -N 'http://127.0.0.1:8080/events?topic=messages'`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, logger *slog.Logger) (err error) {
	var parts service.Group
	defer func() {
		// The server has a timeout of its own; Postgres gets what it needs
		// for an orderly stop.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout+30*time.Second)
		defer cancel()
		err = errors.Join(err, parts.Stop(stopping))
	}()
	url := c.DatabaseURL
	if url == "" {
		if url, err = c.private(ctx, &parts, logger); err != nil {
			return err
		}
	}
	s, err := server.New(c.config(url, logger), services()...)
	if err != nil {
		return err
	}
	if !c.Insecure {
		logger.InfoContext(ctx, "nothing authenticates callers: serving this machine only (--insecure serves others)")
	}
	parts.Go("server", s.Run)
	return parts.Wait(ctx)
}

// private starts a Postgres of our own.
func (c *serveCmd) private(ctx context.Context, parts *service.Group, logger *slog.Logger) (url string, _ error) {
	logger.InfoContext(ctx, "no database URL: starting a private Postgres", "data_dir", c.DataDir)
	pg, err := pgembed.Start(ctx, pgembed.Config{DataDir: c.DataDir, Binaries: c.PostgresBin, Logger: logger})
	if err != nil {
		return "", err
	}
	parts.Defer("private Postgres", pg.Stop)
	parts.Go("private Postgres", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-pg.Done():
			return pg.Err()
		}
	})
	return pg.URL(""), nil
}

func (c *serveCmd) config(url string, logger *slog.Logger) server.Config {
	return server.Config{
		DatabaseURL:       url,
		CaptureURL:        c.CaptureURL,
		SkipMigrate:       !c.Migrate,
		Slot:              c.Slot,
		MaxConns:          c.MaxConns,
		Addr:              c.Addr,
		AdminAddr:         c.AdminAddr,
		Insecure:          c.Insecure,
		AllowedOrigins:    c.AllowedOrigin,
		Page:              web.Handler(),
		MaxWait:           c.MaxWait,
		MaxSettle:         c.MaxSettle,
		MaxLag:            c.MaxLag,
		CacheBytes:        c.CacheBytes,
		MaxTopics:         c.MaxTopics,
		Heartbeat:         c.Heartbeat,
		Throttle:          c.Throttle,
		ReplayWindow:      c.ReplayWindow,
		ReplayWindowBytes: c.ReplayWindowBytes,
		ProbeInterval:     c.ProbeInterval,
		Linger:            c.Linger,
		MaxStreamTopics:   c.MaxStreamTopics,
		WriteTimeout:      c.WriteTimeout,
		MaxRead:           c.MaxRead,
		ReadInterval:      c.ReadInterval,
		MaxStreams:        c.MaxStreams,
		MaxRequestBytes:   c.MaxRequestBytes,
		MaxHeaderBytes:    c.MaxHeaderBytes,
		ReadHeaderTimeout: c.ReadHeaderTimeout,
		ShutdownTimeout:   c.ShutdownTimeout,
		AuditReads:        c.AuditReads,
		Logger:            logger,
		OnReady:           func(url string) { logger.Info("ready", "url", url) },
	}
}
