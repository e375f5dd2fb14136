package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/freshet-dev/freshet/check"
)

type checkCmd struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8080" env:"FRESHET_URL" help:"Address of the server."`
	DatabaseURL string        `placeholder:"URL" env:"FRESHET_DATABASE_URL,DATABASE_URL" help:"The server's database, for writers by SQL and exact commit positions: postgres://user:password@host:5432/name. Unset: RPC only, which sees less."`
	Duration    time.Duration `default:"60s" help:"How long to write."`
	Round       time.Duration `default:"5s" help:"Time between two moments at which writes stop and every client must converge."`
	Clients     int           `default:"100" help:"Clients to simulate."`
	Writers     int           `default:"4" help:"Writers of each kind, RPC and SQL."`
	Rate        int           `default:"100" help:"Writes per second, of all writers."`
	Seed        uint64        `default:"0" help:"What writers and clients choose; 0: a random one, which is printed."`
	TokenFile   string        `name:"token-file" placeholder:"FILE" env:"FRESHET_TOKEN_FILE" help:"File with a bearer token that may read and write conversations/check-**; read again before every request."`
	JSON        string        `name:"json" placeholder:"FILE" type:"path" help:"Write the report as JSON."`
	SVG         string        `name:"svg" placeholder:"FILE" type:"path" help:"Write the histogram of latencies."`
}

// Help is printed by `freshet check --help`.
func (*checkCmd) Help() string {
	return `Writes messages to conversations of its own (check-…), and removes them again if it knows the database. The exit code is 1 on any violation.`
}

// Run checks until the time is over, or ctx ends; what was seen until then is
// judged all the same.
func (c *checkCmd) Run(ctx context.Context, out streams, logger *slog.Logger) (err error) {
	cfg := check.Config{
		URL: c.URL, Run: check.RunName(), Duration: c.Duration, Round: c.Round, Clients: c.Clients,
		Writers: c.Writers, Rate: c.Rate, Seed: c.Seed,
		Progress: func(p check.Progress) {
			fmt.Fprintf(out.err, "%6.0fs  %-10s  %d/%d connected  writes %d  notices %d  reads %d  failures %d\n",
				p.Elapsed.Seconds(), p.Phase, p.Connected, p.Clients, p.Writes, p.Notices, p.Reads, p.Failures)
		},
	}
	if c.TokenFile != "" {
		cfg.Token = func(context.Context) (string, error) { return readToken(c.TokenFile) }
	}
	if c.DatabaseURL != "" {
		database, err := check.OpenPostgres(ctx, c.DatabaseURL, cfg.Run)
		if err != nil {
			return err
		}
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if err := database.Close(closing, cfg.ConversationNames()); err != nil {
				logger.WarnContext(ctx, "the checker's rows stay in the database", "error", err)
			}
		}()
		cfg.Database = database
	}
	report, err := check.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := report.WriteText(out.out); err != nil {
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
	if c.JSON != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err == nil {
			err = os.WriteFile(c.JSON, append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if c.SVG != "" {
		if err := os.WriteFile(c.SVG, []byte(report.SVG()), 0o600); err != nil {
			return fmt.Errorf("--svg: %w", err)
		}
	}
	return nil
}
