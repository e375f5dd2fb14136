package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// InUseError says that somebody needs what is to be taken down: Nodes follow the
// database, and would fail, or set it up anew. If there are none, Idle says of
// which further slots nobody reads: a node that is stopped finds its slot of no use
// without the publication.
type InUseError struct {
	Nodes []string
	Idle  []Problem
}

func (e *InUseError) Error() string {
	if len(e.Nodes) == 0 {
		return "the publication may be other nodes' as well, which are stopped: " + (&Error{Problems: e.Idle}).Error()
	}
	return "nodes follow this database (" + strings.Join(e.Nodes, ", ") + "): stop every `freshet serve` on it first"
}

// CheckUnused returns an *InUseError if nodes follow the database, through
// whatever slot. One that is just starting, or between two attempts to connect,
// doesn't show.
func CheckUnused(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `
select format('%s with pid %s%s%s', case when s.slot_name is null then 'a connection' else 'slot ' || quote_ident(s.slot_name) end, a.pid,
  ' of ' || quote_ident(a.usename), ' from ' || host(a.client_addr))
from pg_stat_activity a left join pg_replication_slots s on s.active_pid = a.pid
where a.datname = current_database() and a.application_name = $1 and a.pid <> pg_backend_pid() order by s.slot_name, a.pid`, ApplicationName)
	if err != nil {
		return fmt.Errorf("look for nodes: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for nodes: %w", err)
	}
	if len(nodes) > 0 {
		return &InUseError{Nodes: nodes}
	}
	return nil
}

// Teardown drops the publication and the slot. Nothing of Freshet holds WAL back
// after it, unless there are further slots: see Orphans. While nodes follow the
// database, somebody reads the slot, or there are such slots, it changes nothing
// and returns an *InUseError; with force it cuts the slot's reader off, and nodes
// fail.
func Teardown(ctx context.Context, conn *pgx.Conn, slot, publication string, force bool) error {
	ours, reader, err := slotReader(ctx, conn, slot)
	if err != nil {
		return err
	}
	if !force {
		if err := CheckUnused(ctx, conn); err != nil {
			return err
		}
		if reader != 0 {
			return &InUseError{Nodes: []string{fmt.Sprintf("slot %s with pid %d", slot, reader)}}
		}
		if idle, err := Orphans(ctx, conn, slot); err != nil {
			return err
		} else if len(idle) > 0 {
			return &InUseError{Idle: idle}
		}
	}
	// First, so that a node that is cut off doesn't set up the slot anew.
	if _, err := conn.Exec(ctx, "drop publication if exists "+quoteIdent(publication)); err != nil {
		return fmt.Errorf("drop publication %q: %w", publication, err)
	}
	if ours {
		if err := dropSlot(ctx, conn, slot); err != nil {
			return fmt.Errorf("drop slot %q: %w", slot, err)
		}
	}
	if _, err := conn.Exec(ctx, `delete from freshet.fingerprint`); err != nil && SQLState(err) != codeUndefinedTable {
		return fmt.Errorf("forget the sources' fingerprints: %w", err)
	}
	return nil
}

// slotReader tells whether the slot is this database's, and who reads it; 0:
// nobody.
func slotReader(ctx context.Context, conn *pgx.Conn, slot string) (ours bool, pid int32, err error) {
	err = conn.QueryRow(ctx, `select true, coalesce(active_pid, 0) from pg_replication_slots where slot_name = $1 and database = current_database()`, slot).Scan(&ours, &pid)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, 0, fmt.Errorf("look up slot: %w", err)
	}
	return ours, pid, nil
}

// dropTimeout bounds how long dropSlot waits for a slot's reader to let go.
const dropTimeout = 10 * time.Second

// dropSlot drops a slot, and cuts off whoever reads it.
func dropSlot(ctx context.Context, conn *pgx.Conn, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	for {
		_, err := conn.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active_pid is not null`, slot)
		if err != nil {
			return err
		}
		// A walsender that was told to end holds the slot for a little longer.
		_, err = conn.Exec(ctx, `select pg_drop_replication_slot($1)`, slot)
		if code := SQLState(err); code == CodeUndefinedObject || code != CodeObjectInUse {
			if code == CodeUndefinedObject {
				return nil
			}
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Orphans lists further slots of this database that hold WAL back and that
// nobody reads: those of nodes that are gone, or of other programs.
func Orphans(ctx context.Context, conn *pgx.Conn, slot string) ([]Problem, error) {
	rows, err := conn.Query(ctx, `
select slot_name, pg_size_pretty(pg_current_wal_insert_lsn() - restart_lsn) from pg_replication_slots
where database = current_database() and slot_name <> $1 and plugin = 'pgoutput' and not active and not temporary and restart_lsn is not null
  and not pg_is_in_recovery() order by 1`, slot)
	if err != nil {
		return nil, fmt.Errorf("look for orphaned slots: %w", err)
	}
	var problems []Problem
	var name, keeps string
	_, err = pgx.ForEachRow(rows, []any{&name, &keeps}, func() error {
		problems = append(problems, Problem{
			Warning: true,
			Text:    fmt.Sprintf("nobody reads the replication slot %q, and it keeps %s of WAL: if it was a node's that is gone for good (server.Config.Slot, --slot), drop it", name, keeps),
			SQL:     []string{"select pg_drop_replication_slot(" + quoteLiteral(name) + ");"},
			By:      "whoever knows that nobody needs it",
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for orphaned slots: %w", err)
	}
	return problems, nil
}
