package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/internal/oneline"
)

var errNotLooked = errors.New("the pool has not been looked at yet")

const (
	// lookInterval is how often Watch looks at the pool, also when it is of no use:
	// then it has begun with the shortest pause and doubled it each time.
	lookInterval  = time.Second
	shortestPause = 20 * time.Millisecond
	// suspectInterval is the pause after a call that found fault, so that many of
	// them are one look.
	suspectInterval = 200 * time.Millisecond
	// lookTimeout bounds one look.
	lookTimeout = 5 * time.Second
)

// health is what is known of the pool's use.
type health struct {
	mu      sync.Mutex // guards the fields below
	err     error      // why the pool is of no use; nil: it is
	refused bool       // a statement was refused for want of a privilege

	wake chan struct{} // capacity 1: look now
}

// Ready returns nil while calls can have connections and may use them, as far as
// Watch knows; else the reason, for operators: it names tables and addresses.
func (d *DB) Ready() error {
	d.health.mu.Lock()
	defer d.health.mu.Unlock()
	return d.health.err
}

// suspect has the pool looked at now: a connection could not be had.
func (h *health) suspect() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// denied says that a statement was refused for want of a privilege.
func (h *health) denied() {
	h.mu.Lock()
	h.refused = true
	h.mu.Unlock()
	h.suspect()
}

// Watch looks at the pool until ctx ends, for Ready: once a second, and when a
// call could not have a connection or a privilege. While calls are served, a look
// costs nothing; while the pool is of no use, looks back off to once a second. It looks
// after the replicas too.
func (d *DB) Watch(ctx context.Context) error {
	var replicas sync.WaitGroup
	replicas.Go(func() { d.replicas.run(ctx) })
	defer replicas.Wait()
	var seen int64 // connections handed out at the last look
	pause := shortestPause
	for suspected := true; ; {
		if suspected || d.pool.Stat().AcquireCount() == seen {
			err := d.look(ctx, suspected)
			if ctx.Err() != nil {
				return nil
			}
			d.health.mu.Lock()
			changed := (err == nil) != (d.health.err == nil)
			d.health.err = err
			d.health.mu.Unlock()
			if changed && d.onChange != nil {
				d.onChange()
			}
		}
		seen = d.pool.Stat().AcquireCount()
		if d.Ready() != nil {
			suspected = true
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, lookInterval)
			continue
		}
		pause = shortestPause
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookInterval):
			suspected = false
		case <-d.health.wake:
			suspected = true
			if !sleep(ctx, suspectInterval) {
				return nil
			}
		}
	}
}

// sleep returns false when ctx has ended first.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// look takes a connection out of the pool. Thoroughly, it opens one too, as the
// pool would, if there is room for one, and looks at what it finds. Where there is no
// room, those that are open may be the last that can be had; but if they are of no use,
// they may lead to a server that is gone without a word, while another has its place.
func (d *DB) look(ctx context.Context, thoroughly bool) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stat := d.pool.Stat()
	full := stat.TotalConns() >= stat.MaxConns()
	if thoroughly && (!full || d.Ready() != nil) {
		if err := d.open(ctx); err != nil && !full {
			return err
		}
	}
	conn, err := d.acquire(ctx, 0)
	if err != nil {
		return fmt.Errorf("the pool has no connection: %w", err)
	}
	defer conn.Release()
	if tagOf(conn.Conn()).pooled {
		err := cmp.Or(d.beginProven(ctx, conn, beginReadSQL, nil, 0), endRead(ctx, conn))
		if err != nil {
			return fmt.Errorf("the database URL leads through a pooler, and a transaction through it fails "+
				"(it needs pool_mode session or transaction): %w", err)
		}
	}
	if !thoroughly {
		return nil
	}
	return d.inspect(ctx, conn.Conn())
}

// open opens a connection as the pool does, and closes it.
func (d *DB) open(ctx context.Context) error {
	config := d.pool.Config().ConnConfig
	if err := d.beforeConnect(ctx, config); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("the pool can't connect: %w", oneline.Error(err))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := d.afterConnect(ctx, conn); err != nil {
		return fmt.Errorf("the pool can't use its connections: %w", err)
	}
	d.Meet(tagOf(conn).epoch)
	return nil
}

// inspect looks at limits, privileges and the search_path.
func (d *DB) inspect(ctx context.Context, conn *pgx.Conn) error {
	if !tagOf(conn).pooled { // the limits are the pooler's concern
		if err := d.inspectLimit(ctx, conn); err != nil {
			return err
		}
	}
	// What is found is one row per source.
	rows, err := conn.Query(ctx, `
select s.name,
  not (has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select')),
  coalesce(fn.nspname || '.' || f.relname, '')
from unnest($1::text[]) as s (name)
join (pg_class as c join pg_namespace as n on n.oid = c.relnamespace) on n.nspname || '.' || c.relname = s.name
left join (pg_class as f join pg_namespace as fn on fn.oid = f.relnamespace)
  on f.oid = to_regclass(quote_ident(c.relname)) and f.oid <> c.oid and f.relkind in ('r', 'p', 'f')
  and not fn.nspname || '.' || f.relname = any ($1)`, pgx.QueryExecModeExec, d.sources)
	if err != nil {
		return fmt.Errorf("look at the pool's tables: %w", err)
	}
	defer rows.Close()
	var unreadable []string
	var shadow error
	for rows.Next() {
		var source, found string
		var denied bool
		if err := rows.Scan(&source, &denied, &found); err != nil {
			return fmt.Errorf("look at the pool's tables: %w", err)
		}
		if denied {
			unreadable = append(unreadable, source)
		}
		if found != "" {
			shadow = fmt.Errorf("by the pool's search_path %s stands before %s, which the contract declares and the feed follows: "+
				"set search_path for the pool's role, or search_path=… in the database URL", found, source)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("look at the pool's tables: %w", err)
	}
	d.health.mu.Lock()
	defer d.health.mu.Unlock()
	if len(unreadable) == 0 || !d.health.refused {
		// Somebody who reads through views alone lacks these privileges and is well.
		d.health.refused = false
		return shadow
	}
	return fmt.Errorf("calls are refused for want of privileges, and the pool's role can't read %s: "+
		"grant usage on the schema, and select, insert, update, delete on the table", strings.Join(unreadable, ", "))
}

// inspectLimit compares the pool's size with what its role and database are
// allowed, which binds nobody but superusers.
func (d *DB) inspectLimit(ctx context.Context, conn *pgx.Conn) error {
	var role string
	var limit int32
	err := conn.QueryRow(ctx, `
select session_user, coalesce(least(nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1)), -1)
from pg_roles as r, pg_database as d
where r.rolname = session_user and d.datname = current_database() and not r.rolsuper`, pgx.QueryExecModeExec).Scan(&role, &limit)
	switch size := d.pool.Config().MaxConns; {
	case errors.Is(err, pgx.ErrNoRows): // a superuser
		return nil
	case err != nil:
		return fmt.Errorf("look at the pool's limits: %w", err)
	case limit >= 0 && limit < size:
		return fmt.Errorf("the pool may grow to %d connections, and role %q or its database is limited to %d: "+
			"raise CONNECTION LIMIT, or lower server.Config.MaxConns (--max-conns)", size, role, limit)
	}
	return nil
}
