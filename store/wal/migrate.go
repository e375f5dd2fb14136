package wal

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Setup creates and mends the publication and the replica identities that
// program needs, as far as no moment of it breaks or holds up writers: each
// problem's statements in one transaction, under a short lock timeout. It
// returns the problems that are left, warnings included, for a person to mend.
// Several nodes may call it at once.
func Setup(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) ([]Problem, error) {
	done := make(map[string]bool)
	for raced := 0; ; {
		problems, err := Check(ctx, conn, program, publication)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(problems, func(p Problem) bool { return p.mend != nil })
		if at < 0 {
			return problems, nil
		}
		// One at a time, and then looked at anew: mending one changes what
		// the others need.
		p := problems[at]
		key := p.Text + strings.Join(p.mend, "")
		if done[key] {
			return nil, fmt.Errorf("%s: it was mended, and is there again: does something undo it (an event trigger, another program)?", p.Text)
		}
		switch err := mend(ctx, conn, p); {
		case err == nil:
			done[key] = true
		case slices.Contains(racedCodes, sqlState(err)) && raced < maxRaces:
			raced++ // another node has done it, or is about to: look again
		default:
			return nil, fmt.Errorf("%s: %w", p.Text, err)
		}
	}
}

// racedCodes are the SQLSTATEs of a statement that another node has run at the
// same time: it is there, it is gone, the catalog's row was changed meanwhile.
var racedCodes = []string{"42710", codeUndefinedObject, "23505", "XX000"}

const maxRaces = 10

// Whoever comes after a statement that waits for a lock waits as well, so ours
// waits for a moment only, and tries again after a longer one.
const (
	mendAttempts = 10
	mendPause    = 400 * time.Millisecond
	mendTimeout  = "100ms"
)

func mend(ctx context.Context, conn *pgx.Conn, p Problem) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `set local lock_timeout = '`+mendTimeout+`'`); err != nil {
				return err
			}
			for _, sql := range p.mend {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
		if sqlState(err) != codeLockNotAvailable {
			return err
		}
		if attempt == mendAttempts {
			return fmt.Errorf("transactions that are open hold the table's lock; it is tried again at the next start (or run: %s): %w", strings.Join(p.SQL, " "), err)
		}
		select {
		case <-time.After(mendPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// codeLockNotAvailable is SQLSTATE 55P03: lock_timeout.
const codeLockNotAvailable = "55P03"
