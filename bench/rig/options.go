package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Options are what a server is started with, beyond the defaults.
type Options struct {
	DatabaseURL string            // unset: a private Postgres
	Settings    map[string]string // of the private Postgres, as if it had been started with them
	Flags       []string          // of `freshet serve`
}

// StartWith is Start with more to say.
func StartWith(ctx context.Context, binary string, o Options) (*Server, error) {
	dir, err := os.MkdirTemp("", "freshet-bench-")
	if err != nil {
		return nil, err
	}
	var s *Server
	if err = configure(ctx, binary, dir, o); err == nil {
		s, err = start(ctx, binary, o.DatabaseURL, dir, o.Flags...)
	}
	if err != nil {
		return nil, errors.Join(err, removeData(dir))
	}
	stop := s.stop
	s.stop = func() error { return errors.Join(stop(), removeData(dir)) }
	return s, nil
}

// configure takes a run of its own: some settings need a restart, and a private
// Postgres can be asked for them once there is one.
func configure(ctx context.Context, binary, dir string, o Options) (err error) {
	if len(o.Settings) == 0 {
		return nil
	}
	if o.DatabaseURL != "" {
		return errors.New("only a private Postgres takes settings")
	}
	s, err := start(ctx, binary, "", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	conn, err := pgx.Connect(ctx, s.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for name, value := range o.Settings {
		// The statement takes no parameters.
		set := "alter system set " + pgx.Identifier{name}.Sanitize() + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
		if _, err := conn.Exec(ctx, set); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}
