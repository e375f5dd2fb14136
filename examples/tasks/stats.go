package main

import (
	"context"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
)

// refreshSQL counts anew, and tells whoever depends on it: REFRESH is not in the
// stream. Tenants and projects need no escapes in a topic, by their domain.
const refreshSQL = `
begin;
refresh materialized view work.board_stats;
select pg_logical_emit_message(true, 'freshet', 'tenants/' || tenant || '/projects/' || id || '/stats') from work.projects;
commit`

// refreshEvery is the job. A failure is logged, and tried again next time.
func refreshEvery(ctx context.Context, url string, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := refresh(ctx, url); err != nil && ctx.Err() == nil {
			log.Print("count tasks: ", err)
		}
	}
}

func refresh(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, refreshSQL)
	return err
}
