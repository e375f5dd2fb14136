package wal

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store/setup"
)

// Nodes of two versions, with two contracts, follow one database side by side while a
// new version is rolled out or taken back, and clients of both have streams and reads
// on either. A node can't tell what only the other's contract emits, and would carry
// its streams past it in silence. So each node records its contract (setup.Version),
// and holds what the others' emit and its own doesn't as it does topics in quarantine:
// nothing of it is kept or shared, and it is told once per heartbeat.
//
//   - A topic that only another's templates match is held for as long as that contract
//     is recorded: pages of that version may be open long after its last node has gone.
//     It costs nobody anything but those who follow it.
//   - A topic that both match, by templates that differ (another table emits it too,
//     or another column makes it), while a node of the other lives, and for some time
//     after. Then nobody reads by the other contract any more, and it is told for the
//     last time.
//
// A node learns of another's contract in the order of the WAL: a message in the
// transaction that records it passes the gate only with a look at the records. The
// other node has written it before it serves, so whatever it has answered before that
// is told about at the message's position.

// lingerLooks is for how many of the watchdog's intervals the other version's topics
// are held after its last node was seen: it may serve reads while it connects anew.
const lingerLooks = 12

// foreign is a pattern of topics that another version tells.
type foreign struct {
	floor   freshet.Pattern
	until   time.Time // held until then, unless it is seen again
	untold  bool
	leaving bool // let go once it has been told
}

// meet holds these patterns too, for linger from now on, and lets go those that
// weren't among them for so long.
func (q *quarantine) meet(floors []freshet.Pattern, linger time.Duration) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, floor := range floors {
		at := slices.IndexFunc(q.foreign, func(o foreign) bool { return o.floor == floor })
		if at < 0 {
			at = len(q.foreign)
			q.foreign = append(q.foreign, foreign{floor: floor, untold: true})
			q.changed, news = true, true
		}
		q.foreign[at].until, q.foreign[at].leaving = now.Add(linger), false
	}
	for i := range q.foreign {
		if o := &q.foreign[i]; !o.leaving && now.After(o.until) {
			o.leaving, o.untold, news = true, true, true
		}
	}
	return news
}

// foreignFloors returns what is held for other versions. The caller holds mu.
func (q *quarantine) foreignFloors() (floors []freshet.Pattern) {
	for _, o := range q.foreign {
		floors = append(floors, o.floor)
	}
	return floors
}

// tellForeign is tell, of other versions' topics. The caller holds mu.
func (q *quarantine) tellForeign() (floors []freshet.Pattern) {
	for i := range q.foreign {
		if o := &q.foreign[i]; o.untold {
			o.untold = false
			floors = append(floors, o.floor)
		}
	}
	return floors
}

// leaveForeign lets go what has been told for the last time. The caller holds mu.
func (q *quarantine) leaveForeign() {
	before := len(q.foreign)
	q.foreign = slices.DeleteFunc(q.foreign, func(o foreign) bool { return o.leaving && !o.untold })
	q.changed = q.changed || len(q.foreign) < before
}

// Foreign returns the patterns of topics that only nodes of another version of the
// contract can tell exactly; none is the rule.
func (f *Feed) Foreign() []freshet.Pattern {
	f.quarantine.mu.Lock()
	defer f.quarantine.mu.Unlock()
	return f.quarantine.foreignFloors()
}

// meetVersions looks at what other versions there are. What it can't find out for now
// changes nothing.
func (s *session) meetVersions(ctx context.Context, conn *pgx.Conn) error {
	f := s.f
	var others []setup.Version
	err := inTx(ctx, conn, oneMoment, func(tx pgx.Tx) (err error) {
		if err := boundStatements(ctx, tx); err != nil {
			return err
		}
		others, err = setup.Versions(ctx, tx, f.cfg.Program.Hash())
		return err
	})
	switch {
	case refused(err):
		return nil
	case err != nil:
		return err
	}
	var floors []freshet.Pattern
	for _, other := range others {
		floors = append(floors, other.Foreign(f.cfg.Program)...)
	}
	if f.quarantine.meet(floors, lingerLooks*f.cfg.WatchInterval) {
		f.Nudge() // it is told with what moves the frontier
		signal(s.work)
		s.log.LogAttrs(ctx, slog.LevelInfo, "topics that only another version of the contract tells have changed: those here are told once per heartbeat",
			slog.Any("topics", floors))
	}
	return nil
}

// announce records the contract, and tells the nodes of others; and forgets those that
// have no node and no topic that this one doesn't emit. The lock that says that a
// node with this contract lives goes with the connection.
func (s *session) announce(ctx context.Context) error {
	program := s.f.cfg.Program
	class, key := setup.VersionLock(program.Hash())
	if _, err := s.watchConn.Exec(ctx, `select pg_try_advisory_lock_shared($1, $2)`, class, key); err != nil {
		return fmt.Errorf("record the contract: %w", err)
	}
	record, err := json.Marshal(program.Emissions())
	if err != nil {
		return fmt.Errorf("record the contract: %w", err)
	}
	err = inTx(ctx, s.watchConn, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if err := boundStatements(ctx, tx); err != nil {
			return err
		}
		others, err := setup.Versions(ctx, tx, program.Hash())
		if err != nil {
			return err
		}
		for _, other := range others {
			if !other.Alive && len(other.Foreign(program)) == 0 {
				if _, err := tx.Exec(ctx, `delete from freshet.fingerprint where source = $1`, setup.VersionName(other.Contract)); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, `
insert into freshet.fingerprint as f (source, value) values ($1, $2)
on conflict (source) do update set value = excluded.value where f.value <> excluded.value`, setup.VersionName(program.Hash()), string(record)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `select pg_logical_emit_message(true, $1, '')`, messageVersion)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the contract: %w", err)
	}
	s.announced = true
	return nil
}
