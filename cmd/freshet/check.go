package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

type checkCmd struct {
	URL         string        `name:"url" placeholder:"URL" env:"FRESHET_URL" help:"Address of the server. Unset: http://127.0.0.1:8080."`
	DatabaseURL string        `placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The server's database, for writers by SQL and exact commit positions: postgres://user:password@host:5432/name. Unset: RPC only, which sees less."`
	Serve       bool          `help:"Check a server of its own, started for this on a private Postgres and removed afterwards: it may be killed."`
	Cluster     bool          `help:"The same with three nodes behind a balancer (HAProxy), and a standby of the Postgres: each request goes to another node, and each fault of a node happens to each."`
	Faults      []string      `default:"none" placeholder:"NAME" help:"What to let go wrong meanwhile: all, none, or names from the list above. Most need --serve or --cluster."`
	Duration    time.Duration `default:"60s" help:"How long to write."`
	Round       time.Duration `default:"0s" help:"Time between two moments at which writes stop and every client must converge; 0: 5s, with faults 10s."`
	Patience    time.Duration `default:"0s" help:"How long clients may take to converge, two heartbeats at least; 0: that, with faults 30s."`
	Clients     int           `default:"300" help:"Clients to simulate; thousands will do, and ask for less each."`
	Writers     int           `default:"4" help:"Writers of each kind, RPC and SQL."`
	Rate        int           `default:"100" help:"Writes per second, of all writers."`
	Seed        uint64        `default:"0" help:"What writers, clients and faults choose; 0: a random one, which is printed."`
	TokenFile   string        `name:"token-file" placeholder:"FILE" env:"FRESHET_TOKEN_FILE" help:"File with a bearer token that may read and write conversations/check-**; read again before every request."`
	JSON        string        `name:"json" placeholder:"FILE" type:"path" help:"Write the report as JSON."`
	SVG         string        `name:"svg" placeholder:"FILE" type:"path" help:"Write the histogram of latencies."`
	History     string        `placeholder:"FILE" type:"path" help:"On a violation, write all that happened in its round."`
	NATS        bool          `name:"nats" help:"With --cluster: start three servers of NATS, by which one node captures and tells the others."`
	ServerLog   string        `placeholder:"FILE" type:"path" help:"With --serve or --cluster: write the log of server and database."`
	PostgresBin string        `placeholder:"DIR" type:"path" help:"With --serve or --cluster: folder with initdb and postgres. Unset: the system's, then those under web/node_modules."`
}

// Help is printed by `freshet check --help`.
func (*checkCmd) Help() string {
	var b strings.Builder
	b.WriteString("Writes messages to conversations of its own (check-…), and removes them again if it knows the database. " +
		"The exit code is 1 on any violation.\n\nFaults:\n")
	for _, f := range check.FaultNames() {
		fmt.Fprintf(&b, "  %-17s %s\n", f[0], f[1])
	}
	b.WriteString("\nTry it:\n  freshet check --serve --duration 1m --faults all\n  freshet check --cluster --duration 1m --faults all\n  freshet check --cluster --nats --duration 1m --faults all")
	return b.String()
}

// Validate is called by kong.
func (c *checkCmd) Validate() error {
	if c.Serve && c.Cluster {
		return errors.New("--serve is one node of the checker's own, --cluster three: leave one out")
	}
	if c.own() > 0 && (c.URL != "" || c.DatabaseURL != "") {
		return errors.New("--serve and --cluster check a server of the checker's own: leave out --url and --database-url (FRESHET_URL, FRESHET_DATABASE_URL, DATABASE_URL)")
	}
	if c.NATS && !c.Cluster {
		return errors.New("--nats is for the nodes of --cluster: there is nobody else to tell")
	}
	return nil
}

// own is how many nodes of its own are checked; zero: somebody else's.
func (c *checkCmd) own() int {
	switch {
	case c.Cluster:
		return clusterNodes
	case c.Serve:
		return 1
	}
	return 0
}

// Run checks until the time is over, or ctx ends; what was seen until then is
// judged all the same.
func (c *checkCmd) Run(ctx context.Context, out streams, logger *slog.Logger) (err error) {
	cfg := check.Config{
		Workload: workload.Messages(), URL: cmp.Or(c.URL, "http://127.0.0.1:8080"), Run: check.RunName(), Duration: c.Duration, Round: c.Round, Patience: c.Patience,
		Clients: c.Clients, Writers: c.Writers, Rate: c.Rate, Seed: c.Seed, Faults: c.Faults,
	}
	show := newProgress(out.err)
	cfg.Progress = show.tell
	var unwritten error
	cfg.Condemned = func(h *check.History) { unwritten = c.file("history", c.History, []byte(h.String())) }
	if c.TokenFile != "" {
		cfg.Token = func(context.Context) (string, error) { return readToken(c.TokenFile) }
	}
	databaseURL := c.DatabaseURL
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var own *checkedServer
	if c.own() > 0 {
		var log io.WriteCloser
		if log, err = c.serverLog(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		if own, cfg.URL, err = startChecked(ctx, c.PostgresBin, c.own(), log, func(err error) { cancel(&endedError{err}) }, c.NATS); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, own.Close()) }()
		databaseURL = own.postgres.URL("")
	}
	if databaseURL != "" {
		database, err := check.OpenPostgres(ctx, databaseURL, cfg.Run, cfg.Workload.Table)
		if err != nil {
			return err
		}
		defer func() { c.clear(ctx, database, &cfg, logger) }()
		cfg.Database = database
		if own != nil {
			cfg.Stage = own.stage(database)
		}
	}
	report, err := check.Run(ctx, cfg)
	show.end()
	if ended, ok := errors.AsType[*endedError](context.Cause(ctx)); ok {
		return ended
	}
	if err != nil {
		return err
	}
	return errors.Join(c.tell(report, out.out), unwritten)
}

// endedError is why a run was given up: its own server ended by itself.
type endedError struct{ error }

func (e *endedError) Unwrap() error { return e.error }

// clear removes what the checker wrote; a database of its own goes as a whole.
func (c *checkCmd) clear(ctx context.Context, database *check.Postgres, cfg *check.Config, logger *slog.Logger) {
	if c.own() > 0 {
		return
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := database.Close(closing, cfg.PlaceNames()); err != nil {
		logger.WarnContext(ctx, "the checker's rows stay in the database", "error", err)
	}
}

// tell writes the report; an error makes the exit code.
func (c *checkCmd) tell(report *check.Report, out io.Writer) error {
	if err := report.WriteText(out); err != nil {
		return err
	}
	if err := c.files(report); err != nil {
		return err
	}
	if report.Violations() > 0 {
		return errFindings
	}
	if report.Writes == 0 || report.Observations() == 0 {
		return errors.New("nothing was observed, so nothing is known")
	}
	return nil
}

func (c *checkCmd) files(report *check.Report) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(c.file("json", c.JSON, append(text, '\n')), c.file("svg", c.SVG, []byte(report.SVG())))
}

// file writes one that a flag named; an empty path: none.
func (*checkCmd) file(flag, path string, content []byte) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return nil
}

func (c *checkCmd) serverLog() (io.WriteCloser, error) {
	if c.ServerLog == "" {
		return nopCloser{io.Discard}, nil
	}
	file, err := os.OpenFile(c.ServerLog, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--server-log: %w", err)
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
