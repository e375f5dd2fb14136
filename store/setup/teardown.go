package setup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// InUseError says that somebody needs what is to be taken down: Nodes, by where they
// run, follow the database, and would fail, or set it up anew. If there are none, Idle
// says of which further slots nobody reads: a node that is stopped finds its slot of no
// use without the publication.
type InUseError struct {
	Nodes []string
	Idle  []Problem
}

func (e *InUseError) Error() string {
	if len(e.Nodes) == 0 {
		return "the publication may be other nodes' as well, which are stopped: " + (&Error{Problems: e.Idle}).Error()
	}
	return "nodes follow this database (" + strings.Join(e.Nodes, "; ") + "): stop every `freshet serve`, and every service of package server, on it first, by SIGTERM or Ctrl-C"
}

// CheckUnused returns an *InUseError if nodes follow the database, through
// whatever slot. One that is just starting, or between two attempts to connect,
// doesn't show.
func CheckUnused(ctx context.Context, conn *pgx.Conn) error {
	// A node that captures reads a slot of its own; which of the other connections are
	// its, Postgres doesn't know.
	rows, err := conn.Query(ctx, `
select format('%s: %s', coalesce('from ' || host(a.client_addr), 'from the server''s own machine, or from where this role can''t see'),
  concat_ws(', ', string_agg(format('slot %s with pid %s', quote_ident(s.slot_name), a.pid), ', ' order by s.slot_name) filter (where s.slot_name is not null),
    nullif(count(*) filter (where s.slot_name is null), 0) || ' other connections'))
from pg_stat_activity a left join pg_replication_slots s on s.active_pid = a.pid
where a.datname = current_database() and a.application_name = $1 and a.pid <> pg_backend_pid()
group by a.client_addr order by a.client_addr`, ApplicationName)
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

// Removed is what Teardown has removed.
type Removed struct {
	Slot        bool // false: there was none
	Publication bool // false: there was none, or others need it
	// NeededBy names the further slots that may be read by way of the publication, which
	// stays for them; none: nobody needs it.
	NeededBy []string
}

// Teardown drops the slot, and the publication, which is of all slots: as long as there
// are others of this database that may need it, it stays. Nothing of Freshet holds WAL
// back after it, unless there are such slots: see Orphans. While nodes follow the
// database, somebody reads the slot or a copy of it, or there are further slots of which
// nobody reads, it changes nothing and returns an *InUseError. With force it drops the
// slot all the same, and cuts off who reads it; but not where the publication stays, by
// which they would make the slot anew. Nodes that are cut off go on once somebody has
// called Apply.
func Teardown(ctx context.Context, conn *pgx.Conn, slot, publication string, force bool) (Removed, error) {
	var removed Removed
	readers, err := slotReaders(ctx, conn, slot)
	if err != nil {
		return removed, err
	}
	if !force {
		if err := CheckUnused(ctx, conn); err != nil {
			return removed, err
		}
		if len(readers) > 0 {
			return removed, &InUseError{Nodes: readers}
		}
		if idle, err := Orphans(ctx, conn, slot); err != nil {
			return removed, err
		} else if len(idle) > 0 {
			return removed, &InUseError{Idle: idle}
		}
	}
	if removed.NeededBy, err = otherSlots(ctx, conn, slot); err != nil {
		return removed, err
	}
	if len(readers) > 0 && len(removed.NeededBy) > 0 {
		return Removed{}, &InUseError{Nodes: readers}
	}
	if len(removed.NeededBy) == 0 {
		// First, so that no node that is cut off, or keeps the slot, makes it anew.
		if removed.Publication, err = dropPublication(ctx, conn, publication); err != nil {
			return removed, err
		}
	}
	if removed.Slot, err = dropSlot(ctx, conn, slot); err != nil {
		return removed, fmt.Errorf("drop slot %q: %w", slot, err)
	}
	return removed, nil
}

// otherSlots names the slots of this database, but one and its copies, that may be read
// by way of our publication: which one somebody reads by, Postgres doesn't keep.
func otherSlots(ctx context.Context, conn *pgx.Conn, slot string) ([]string, error) {
	return slotsWhere(ctx, conn, `database = current_database() and plugin = 'pgoutput' and not (`+ofSlot+`)`, slot)
}

// dropPublication drops a publication, and what is known of its sources; it returns
// whether there was one.
func dropPublication(ctx context.Context, conn *pgx.Conn, publication string) (was bool, err error) {
	if err := conn.QueryRow(ctx, `select exists (select from pg_publication where pubname = $1)`, publication).Scan(&was); err != nil {
		return false, fmt.Errorf("look up publication: %w", err)
	}
	if _, err := conn.Exec(ctx, "drop publication if exists "+quoteIdent(publication)); err != nil {
		return false, fmt.Errorf("drop publication %q: %w", publication, err)
	}
	if _, err := conn.Exec(ctx, `delete from freshet.fingerprint`); err != nil && SQLState(err) != codeUndefinedTable {
		return was, fmt.Errorf("forget the sources' fingerprints: %w", err)
	}
	return was, nil
}

// ofSlot are this database's slot of the name $1, and the copies of it that $2
// matches.
const ofSlot = `database = current_database() and (slot_name = $1 or temporary and slot_name ~ $2)`

// slotReaders names who reads the slot, or a copy of it.
func slotReaders(ctx context.Context, conn *pgx.Conn, slot string) ([]string, error) {
	return slotsWhere(ctx, conn, `active_pid is not null and `+ofSlot, slot)
}

// slotsWhere names the slots of a condition in which ofSlot is, and who reads each.
func slotsWhere(ctx context.Context, conn *pgx.Conn, condition, slot string) ([]string, error) {
	rows, err := conn.Query(ctx, `
select format('slot %s%s', quote_ident(slot_name), ' with pid ' || active_pid) from pg_replication_slots
where `+condition+` order by slot_name`, slot, CopiesOf(slot))
	if err != nil {
		return nil, fmt.Errorf("look for slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for slots: %w", err)
	}
	return slots, nil
}

// dropTimeout bounds how long dropSlot waits for a slot's readers to let go.
const dropTimeout = 10 * time.Second

// dropSlot drops a slot, and cuts off whoever reads it or a copy of it; the copies go
// with that. It returns whether the slot was there.
func dropSlot(ctx context.Context, conn *pgx.Conn, slot string) (was bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	for {
		_, err := conn.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null and `+ofSlot, slot, CopiesOf(slot))
		if err != nil {
			return was, err
		}
		// A walsender that was told to end holds the slot for a little longer.
		dropped, err := conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where not temporary and `+ofSlot, slot, CopiesOf(slot))
		if code := SQLState(err); err != nil && code != CodeUndefinedObject && code != CodeObjectInUse {
			return was, err
		}
		was = was || dropped.RowsAffected() > 0
		var left int
		if e := conn.QueryRow(ctx, `select count(*) from pg_replication_slots where `+ofSlot, slot, CopiesOf(slot)).Scan(&left); e != nil || left == 0 {
			return was, e
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return was, ctx.Err()
		}
	}
}

// Orphans lists further slots of this database that hold WAL back and that
// nobody reads: those that each node had in earlier versions, or of other programs.
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
			Text:    fmt.Sprintf("nobody reads the replication slot %q, and it keeps %s of WAL: if it was a node's (all nodes use one slot now), or stands for one of another name (server.Config.Slot, --slot) that is gone for good, drop it", name, keeps),
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
