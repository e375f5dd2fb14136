package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Setup creates and mends the publication and the replica identities that
// program needs, as far as no moment of it breaks writers: each problem's
// statements in one transaction, under a lock timeout. It returns the problems
// that are left, warnings included, for a person to mend.
func Setup(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) ([]Problem, error) {
	for {
		problems, err := Check(ctx, conn, program, publication)
		if err != nil {
			return nil, err
		}
		at := -1
		for i, p := range problems {
			if p.apply {
				at = i
				break
			}
		}
		if at < 0 {
			return problems, nil
		}
		// One at a time, and then looked at anew: mending one changes what
		// the others need.
		if err := apply(ctx, conn, problems[at]); err != nil {
			return nil, fmt.Errorf("%s: %w", problems[at].Text, err)
		}
	}
}

func apply(ctx context.Context, conn *pgx.Conn, p Problem) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '5s'`); err != nil {
			return err
		}
		for _, sql := range p.SQL {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// Teardown drops the slot and the publication. Nothing of Freshet holds WAL
// back after it. A slot that is in use is an error that says by whom.
func Teardown(ctx context.Context, conn *pgx.Conn, slot, publication string) error {
	var pid *int32
	rows, err := conn.Query(ctx, `select active_pid from pg_replication_slots where slot_name = $1 and database = current_database()`, slot)
	if err != nil {
		return fmt.Errorf("look up slot: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[*int32])
	if err != nil {
		return fmt.Errorf("look up slot: %w", err)
	}
	if len(found) > 0 {
		if pid = found[0]; pid != nil {
			return fmt.Errorf("the slot %q is in use by the backend with pid %d: stop every `freshet serve` on this database first", slot, *pid)
		}
		if _, err := conn.Exec(ctx, `select pg_drop_replication_slot($1)`, slot); err != nil {
			return fmt.Errorf("drop slot %q: %w", slot, err)
		}
	}
	if _, err := conn.Exec(ctx, "drop publication if exists "+quoteIdent(publication)); err != nil {
		return fmt.Errorf("drop publication %q: %w", publication, err)
	}
	if _, err := conn.Exec(ctx, `delete from freshet.fingerprint`); err != nil && sqlState(err) != "42P01" {
		return fmt.Errorf("forget the sources' fingerprints: %w", err)
	}
	return nil
}
