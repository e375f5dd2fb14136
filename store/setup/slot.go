package setup

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
)

// MaxSlotName is how long the name of a slot may be, in bytes: Postgres takes 63, and
// each node's copy has a random part of 9 besides.
const MaxSlotName = 54

// CopiesOf returns a regular expression, of Postgres, for the names of the temporary
// copies of a slot that nodes stream from.
func CopiesOf(slot string) string { return "^" + regexp.QuoteMeta(slot) + "_[0-9a-f]{8}$" }

// slotUse is what the server says of slots and walsenders, and of ours.
type slotUse struct {
	maxSlots, slots     int
	maxSenders, senders int
	prepared            []string // prepared transactions, as literals
	super               bool     // the role may change settings

	copies               int // of our slot: one per node that lives
	exists, ours, active bool
	database, plugin     string // of a physical slot empty
	status               string
	keeps                string // WAL, as text for people
}

// CheckSlot looks at what a replication slot of this name, and one more node's copy
// of it, need from the server and the role, at the slot if it is there already, and
// for orphaned ones. It changes nothing, and none of what it finds is mended by
// migrate. The error is a failure to look, not a finding.
func CheckSlot(ctx context.Context, conn *pgx.Conn, slot string) ([]Problem, error) {
	var u slotUse
	if len(slot) > MaxSlotName {
		return []Problem{{Text: fmt.Sprintf("the name of the replication slot, %q, is too long: %d characters at most (server.Config.Slot, --slot), since each node adds some for its copy", slot, MaxSlotName)}}, nil
	}
	err := conn.QueryRow(ctx, `
select current_setting('max_replication_slots')::int, (select count(*) from pg_replication_slots),
  current_setting('max_wal_senders')::int, (select count(*) from pg_stat_replication),
  array(select quote_literal(gid) from pg_prepared_xacts order by prepared),
  (select rolsuper from pg_roles where rolname = current_user), s.slot_name is not null, coalesce(s.plugin = 'pgoutput' and s.database = current_database(), false), coalesce(s.active, false),
  coalesce(s.database, ''), coalesce(s.plugin, ''), (select count(*) from pg_replication_slots c where c.temporary and c.slot_name ~ $2),
  coalesce(s.wal_status, ''), coalesce(pg_size_pretty(case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end - s.restart_lsn), '')
from (select) one left join pg_replication_slots s on s.slot_name = $1`, slot, CopiesOf(slot)).
		Scan(&u.maxSlots, &u.slots, &u.maxSenders, &u.senders, &u.prepared, &u.super, &u.exists, &u.ours, &u.active, &u.database, &u.plugin, &u.copies, &u.status, &u.keeps)
	if err != nil {
		return nil, fmt.Errorf("check slot %q: %w", slot, err)
	}
	problems, err := checkReplication(ctx, conn)
	if err != nil {
		return nil, err
	}
	orphans, err := Orphans(ctx, conn, slot)
	if err != nil {
		return nil, err
	}
	return slices.Concat(problems, u.problems(slot), orphans), nil
}

// CheckNodes warns of nodes that share a slot and follow the database by other publications
// than this one. Which one that is Postgres doesn't keep: it is in what their walsenders
// were asked for, which it shows to a node's own role and to whoever may see all activity.
func CheckNodes(ctx context.Context, conn *pgx.Conn, slot, publication string) (problems []Problem, err error) {
	rows, err := conn.Query(ctx, `
select name, array_agg(a.pid order by a.pid)
from pg_replication_slots s join pg_stat_activity a on a.pid = s.active_pid
cross join lateral substring(a.query from 'publication_names ''([^'']+)''') name
where s.database = current_database() and s.temporary and s.slot_name ~ $1 and name <> $2 group by 1 order by 1`, CopiesOf(slot), publication)
	if err != nil {
		return nil, fmt.Errorf("check the nodes of slot %q: %w", slot, err)
	}
	var theirs string
	var pids []int32
	_, err = pgx.ForEachRow(rows, []any{&theirs, &pids}, func() error {
		problems = append(problems, Problem{Warning: true, Text: fmt.Sprintf(
			"nodes that share the replication slot %q follow by the publication %q (walsenders %v), not by %q: what one is set up for the other isn't; give them one publication (server.Config.Publication, --publication), or each a slot of its own (server.Config.Slot, --slot)",
			slot, theirs, pids, publication)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check the nodes of slot %q: %w", slot, err)
	}
	return problems, nil
}

func (u *slotUse) problems(slot string) (problems []Problem) {
	add := func(p Problem) { problems = append(problems, p) }
	drop := "select pg_drop_replication_slot(" + quoteLiteral(slot) + ");"
	if u.exists && !u.ours {
		// Nothing to run: somebody may be in need of it.
		whose := "is a physical one"
		if u.database != "" {
			whose = fmt.Sprintf("belongs to the database %q and the plugin %s", u.database, u.plugin)
		}
		add(Problem{Text: fmt.Sprintf("the replication slot %q %s, and a server has one of a name: choose another name (server.Config.Slot, --slot)", slot, whose)})
		return problems
	}
	needs, what := 1, "one for its copy"
	if !u.exists {
		needs, what = 2, "one to stay, and one for its copy"
	}
	switch free := u.maxSlots - u.slots; {
	case free < needs:
		add(alterSystem(fmt.Sprintf("the replication slots are taken (%d of max_replication_slots = %d), and a node needs %s: drop one that nobody needs, or allow more, which needs a restart of Postgres", u.slots, u.maxSlots, what),
			u.super, fmt.Sprintf("alter system set max_replication_slots = %d;", u.slots+needs+2)))
	case free < u.copies:
		p := alterSystem(fmt.Sprintf("%d replication slots are free (max_replication_slots = %d), and %d nodes follow the database: when all of them connect anew, each may need a second one for some seconds; to allow more needs a restart of Postgres", free, u.maxSlots, u.copies),
			u.super, fmt.Sprintf("alter system set max_replication_slots = %d;", u.slots+u.copies+2))
		p.Warning = true
		add(p)
	}
	if u.senders >= u.maxSenders {
		add(alterSystem(fmt.Sprintf("all walsenders are taken (%d of max_wal_senders = %d); to allow more needs a restart of Postgres", u.senders, u.maxSenders),
			u.super, fmt.Sprintf("alter system set max_wal_senders = %d;", u.senders+2)))
	}
	if !u.exists {
		for _, gid := range u.prepared {
			add(Problem{
				Warning: true,
				Text:    "the prepared transaction " + gid + " holds up the making of the replication slot: commit it, or roll it back",
				SQL:     []string{"rollback prepared " + gid + ";"},
				By:      "whoever knows that it is to be undone",
			})
		}
	}
	switch {
	case u.status == "lost":
		add(Problem{
			Warning: true,
			Text:    fmt.Sprintf("the replication slot %q has lost its WAL (max_slot_wal_keep_size): a node that lives makes another one of its own, else serve does, and all clients refetch", slot),
			SQL:     []string{drop},
		})
	case u.exists && !u.active && u.copies == 0: // nobody reads it as a rule, but its copies
		add(Problem{
			Warning: true,
			Text:    fmt.Sprintf("no node lives that moves the replication slot %q on, and it keeps %s of WAL: start serve, or run `freshet teardown`", slot, u.keeps),
		})
	}
	return problems
}
