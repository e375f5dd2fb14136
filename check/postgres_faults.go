package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// HoldCommits makes every commit of the cluster hang between its flush and its
// visibility, by asking for a synchronous standby that doesn't exist; or ends
// that. Only for a cluster that is the caller's own.
func (p *Postgres) HoldCommits(ctx context.Context, on bool) error {
	standby := ""
	if on {
		standby = "absent"
	}
	return p.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "alter system set synchronous_standby_names = '"+standby+"'")
		if err == nil {
			_, err = conn.Exec(ctx, "select pg_reload_conf()")
		}
		return err
	})
}

// Conflict makes the replay of every standby cancel what reads the workload's table
// there, again and again for that long: if they don't let replay wait
// (max_standby_streaming_delay = 0). Writers wait meanwhile, for a moment each time. Only
// for a cluster that is the caller's own.
func (p *Postgres) Conflict(ctx context.Context, length time.Duration) error {
	return p.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		// Of the locks, replay takes this one only.
		const lock = "begin; set local lock_timeout = '1s'; lock table %s in access exclusive mode; commit"
		for until := time.Now().Add(length); ; pass(ctx, 20*time.Millisecond) {
			_, err := conn.Exec(ctx, fmt.Sprintf(lock, p.of.table))
			const busy = "55P03"
			if said, ok := errors.AsType[*pgconn.PgError](err); ok && said.Code == busy {
				_, err = conn.Exec(ctx, "rollback")
			}
			if err != nil || ctx.Err() != nil || time.Now().After(until) {
				return err
			}
		}
	})
}

// PauseReplay has the standby that a URL leads to not replay what it receives, or go on.
// Only for one that is the caller's own.
func PauseReplay(ctx context.Context, url string, on bool) error {
	standby := Postgres{url: url}
	return standby.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return unlessCancelled(ctx, func() error {
			_, err := conn.Exec(ctx, "select case when $1 then pg_wal_replay_pause() else pg_wal_replay_resume() end", on)
			return err
		})
	})
}

// unlessCancelled does something on a standby, again when replay has cancelled it: there
// it cancels whoever is in its way, us too.
func unlessCancelled(ctx context.Context, do func() error) error {
	for {
		err := do()
		const conflict = "40001"
		if said, ok := errors.AsType[*pgconn.PgError](err); !ok || said.Code != conflict || ctx.Err() != nil {
			return err
		}
		pass(ctx, 10*time.Millisecond)
	}
}

// DropSlot drops a replication slot under whoever uses it, and then cuts off who
// reads a temporary copy of it (its name, and eight digits): else a server would make
// it anew out of that, and lose nothing. Only for a cluster that is the caller's own.
// No such slot: there is nothing to do.
func (p *Postgres) DropSlot(ctx context.Context, slot string) error {
	return p.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for {
			_, err := conn.Exec(ctx, "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1", slot)
			if err == nil {
				_, err = conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", slot)
			}
			if err == nil {
				_, err = conn.Exec(ctx, "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where temporary and slot_name ~ ('^' || $1 || '_[0-9a-f]{8}$')", slot)
			}
			said, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || said.Code != "55006" && said.Code != "42704" {
				return err
			}
			pass(ctx, 10*time.Millisecond) // taken again meanwhile, or dropped by its user
			if ctx.Err() != nil {
				return err
			}
		}
	})
}

// unpublish takes the table out of the publications that name them, and
// returns what puts them back, which is to be called in any case.
func (s *pgSession) unpublish(ctx context.Context) (publish func() error, err error) {
	var publications []string
	rows, err := s.conn.Query(ctx, `select quote_ident(p.pubname) from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
		where r.prrelid = $2::text::regclass and p.pubname <> $1`, s.p.slot, s.p.of.table)
	if err == nil {
		publications, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	publish = func() error {
		return s.p.once(context.WithoutCancel(ctx), func(ctx context.Context, conn *pgx.Conn) error {
			for _, publication := range publications {
				_, err := conn.Exec(ctx, "alter publication "+publication+" add table "+s.p.of.table)
				const exists = "42710" // the server was faster
				if said, ok := errors.AsType[*pgconn.PgError](err); ok && said.Code == exists {
					continue
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, publication := range publications {
		if err == nil {
			_, err = s.conn.Exec(ctx, "alter publication "+publication+" drop table "+s.p.of.table)
		}
	}
	return publish, err
}

// once does something on a connection of its own.
func (p *Postgres) once(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := do(ctx, conn); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}
