package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Apply creates and mends the publication and the replica identities that
// program needs, as far as no moment of it breaks or holds up writers, and it
// takes but a moment and has no price: each problem's statements in one
// transaction, under a short lock timeout. It returns the problems that are left,
// warnings included, for a person to mend. Several nodes may call it at once: they
// take turns where there is something to mend.
func Apply(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) ([]Problem, error) {
	a := applying{conn: conn, program: program, publication: publication, progress: func(string) {}}
	return a.run(ctx)
}

// ApplyAll does what Apply does, and what that leaves because it takes its time
// (an index is made beside the writers, once all transactions that run are over)
// or has a price (REPLICA IDENTITY FULL): all that Check prints for this role,
// but for settings of the server, which are other databases' too. No moment of it
// breaks or holds up writers either. progress, which may be nil, is told each step
// before it is taken: the statement to be run, or what is waited for. Those who call
// it at once take turns.
func ApplyAll(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string, progress func(step string)) (left []Problem, err error) {
	if progress == nil {
		progress = func(string) {}
	}
	a := applying{conn: conn, program: program, publication: publication, all: true, progress: progress}
	err = a.alone(ctx, func() error {
		left, err = a.run(ctx)
		return err
	})
	return left, err
}

// applying is one call of Apply or ApplyAll.
type applying struct {
	conn        *pgx.Conn
	program     *contract.Program
	publication string
	all         bool // also what has to be asked for
	progress    func(step string)
}

// takes says that a problem is mended here, and not left to a person.
func (a *applying) takes(p Problem) bool { return len(p.mend) > 0 && (a.all || !p.asked) }

// run mends what a look has found, as far as that can be told by one look, and then
// looks anew: mending one thing changes what the others need. The number of looks
// grows with that of the indexes that are to be made, not with that of the sources.
// What it mends it has found in its turn, so that nobody else has mended it since.
func (a *applying) run(ctx context.Context) ([]Problem, error) {
	// More than there can be things to mend: three of each source, and the publication.
	most := 4 * (len(a.program.Sources()) + 1)
	done := make(map[string]bool)
	raced := 0
	turn := turn{conn: a.conn, key: mendLock}
	defer turn.end(ctx)
	for {
		problems, err := Check(ctx, a.conn, a.program, a.publication)
		if err != nil {
			return nil, err
		}
		now := a.now(problems)
		if len(now) == 0 {
			return problems, nil
		}
		switch {
		case len(now[0].before) > 0: // it takes its time, and others needn't wait for it
			turn.end(ctx)
		case !turn.begun:
			if err := turn.begin(ctx, mendPause, mendPatience, nil); err != nil {
				return nil, err
			}
			continue // somebody else may have mended it
		}
		for _, p := range now {
			key := p.Text + strings.Join(p.before, "") + strings.Join(p.mend, "")
			switch {
			case done[key]:
				return nil, fmt.Errorf("%s: it was mended, and is there again: does something undo it (an event trigger, another program)?", p.Text)
			case len(done) == most:
				return nil, fmt.Errorf("%s: %d things were mended, and there is always another: does something undo them (an event trigger, another program)?", p.Text, most)
			}
			err := a.mend(ctx, p)
			if slices.Contains(racedCodes, SQLState(err)) && raced < maxRaces {
				raced++ // somebody else has done it, or is about to: look again
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Text, err)
			}
			done[key] = true
		}
	}
}

// now returns what to mend before the next look, in this order: the first problem, and
// if that is quick and apart, the first of each other source that is so, too. (While an
// index is made, which may take an hour, much can change.)
func (a *applying) now(problems []Problem) (now []Problem) {
	sources := make(map[string]bool)
	for _, p := range problems {
		together := p.apart && len(p.before) == 0
		switch {
		case !a.takes(p):
		case len(now) == 0:
			now = append(now, p)
			if !together {
				return now
			}
			sources[p.Source] = true
		case together && !sources[p.Source]:
			now = append(now, p)
			sources[p.Source] = true
		}
	}
	return now
}

// racedCodes are the SQLSTATEs of a statement that somebody who takes no turns (a
// person, a node of an earlier version) has run at the same time: it is there, it is
// gone, the catalog's row was changed meanwhile.
var racedCodes = []string{"42710", CodeUndefinedObject, "23505", "XX000"}

const maxRaces = 10

// Whoever comes after a statement that waits for a lock waits as well, so ours
// waits for a moment only, and tries again after a longer one.
const (
	mendAttempts = 10
	retryPause   = 400 * time.Millisecond
	mendTimeout  = "100ms"
)

// mend mends one problem, or, where something has to be done for that outside of a
// transaction, does that: the next look finds the rest. It waits for those who write
// then, and is waited for by none of them: CREATE and DROP INDEX CONCURRENTLY take a
// lock that conflicts with no INSERT, UPDATE or DELETE, not even while it is queued for.
func (a *applying) mend(ctx context.Context, p Problem) error {
	for _, sql := range p.before {
		a.progress("run: " + sql)
		if _, err := a.conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if len(p.before) > 0 {
		return nil
	}
	a.progress("run: " + strings.Join(p.mend, " "))
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, a.conn, func(tx pgx.Tx) error {
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
		if SQLState(err) != CodeLockNotAvailable {
			return err
		}
		if attempt == mendAttempts {
			return fmt.Errorf("transactions that are open hold the table's lock; it is tried again at the next start (or run: %s): %w", strings.Join(p.SQL, " "), err)
		}
		if err := sleep(ctx, retryPause); err != nil {
			return err
		}
	}
}

// Keys of the advisory locks by which several take turns: "freshet" in ASCII, plus one
// and plus two.
const (
	// allLock is for calls of ApplyAll: one must not drop the index that another is
	// making, which may take an hour.
	allLock int64 = 0x66726573686575
	// mendLock is for mending what is mended in a moment, of nodes that start at once
	// for example: the second one's statement would be an error, and in the server's log.
	mendLock int64 = 0x66726573686576
)

const (
	allPause  = time.Second
	mendPause = 100 * time.Millisecond
)

// mendPatience bounds the wait for a turn that takes but a moment. Whoever has it
// may hang; to go on without it costs an error in the server's log, at worst.
var mendPatience = 30 * time.Second

// endTimeout bounds what runs whatever became of the caller's context: giving the
// turn to the next.
const endTimeout = 10 * time.Second

// turn is when only one may do something.
type turn struct {
	conn        *pgx.Conn
	key         int64
	begun, mine bool // begun without being ours: patience was at its end
}

// begin waits for the turn, which is asked for once each pause; told, which may be
// nil, is called if somebody else has it. After patience, unless that is 0, it goes on
// without.
func (t *turn) begin(ctx context.Context, pause, patience time.Duration, told func()) error {
	// It is tried for, and not waited for: whoever waits in a statement is a
	// transaction that the making of an index waits for.
	for began := time.Now(); ; {
		if err := t.conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, t.key).Scan(&t.mine); err != nil {
			return fmt.Errorf("take turns: %w", err)
		}
		if t.begun = t.mine || patience > 0 && time.Since(began) >= patience; t.begun {
			return nil
		}
		if told != nil {
			told()
			told = nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// end gives the turn to the next, if it is ours.
func (t *turn) end(ctx context.Context) {
	if t.mine {
		// If that fails the connection is gone, and what it held with it.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		_, _ = t.conn.Exec(ending, `select pg_advisory_unlock($1)`, t.key)
	}
	t.begun, t.mine = false, false
}

// alone runs do when no other call of ApplyAll runs. Making an index may take longer
// than a statement of this role usually may, and waits for locks.
func (a *applying) alone(ctx context.Context, do func() error) error {
	turn := turn{conn: a.conn, key: allLock}
	if err := turn.begin(ctx, allPause, 0, func() { a.progress("waiting for somebody else who sets up this database") }); err != nil {
		return err
	}
	defer turn.end(ctx)
	if _, err := a.conn.Exec(ctx, `set statement_timeout = 0; set lock_timeout = 0`); err != nil {
		return fmt.Errorf("take turns: %w", err)
	}
	err := do()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_, _ = a.conn.Exec(ending, `reset statement_timeout; reset lock_timeout`)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
