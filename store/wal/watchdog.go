package wal

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// fingerprintSQL sums up what the catalog says of a table, its leaves and its
// place in the publication. The xmin of the catalog's rows shows even an
// identity that was flipped there and back, and VACUUM FREEZE doesn't disturb
// it.
const fingerprintSQL = `
with recursive tree as (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
  union all
  select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.oid
)
select coalesce(md5(string_agg(part, ' ' order by part)), '') from (
  select 'c' || c.oid || ':' || c.xmin || ':' || c.relfilenode from pg_class c join tree using (oid)
  union all select 'i' || x.indexrelid || ':' || x.xmin from pg_index x join tree on x.indrelid = tree.oid
  union all select 'a' || a.attrelid || ':' || a.attnum || ':' || a.xmin from pg_attribute a join tree on a.attrelid = tree.oid where a.attnum > 0
  union all select 'p' || p.oid || ':' || p.xmin from pg_publication p where p.pubname = $3
  union all select 'r' || r.oid || ':' || r.xmin from pg_publication_rel r join tree on r.prrelid = tree.oid
    join pg_publication p on p.oid = r.prpubid and p.pubname = $3
) parts (part)`

// syncInterval is how often the walsender's sync_state is read: as long as it
// could be a synchronous standby, commits of the application hang.
const syncInterval = 250 * time.Millisecond

// watch looks for what never reaches the stream: table rewrites, rows written
// while a table was out of the publication, partitions that come and go, an
// identity flipped and back. It also repeats the set-up checks, and that our
// walsender is no synchronous standby.
func (s *session) watch(ctx context.Context) error {
	f := s.f
	standby := time.NewTicker(syncInterval)
	defer standby.Stop()
	look := time.NewTicker(f.cfg.WatchInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-standby.C:
			if err := s.checkSyncState(ctx); err != nil {
				return err
			}
			if err := s.checkAlive(ctx); err != nil {
				return err
			}
			continue
		case <-look.C:
		case <-s.watched:
		}
		if err := s.checkSources(ctx); err != nil {
			return err
		}
		problems, err := Check(ctx, s.watchConn, f.cfg.Program, f.cfg.Publication)
		if err != nil {
			return err
		}
		s.setUnsound(ctx, problems)
		f.stats.looks.Add(1)
	}
}

// setUnsound records whether capture can still be trusted. The stream goes on
// (other sources are fine, and the one concerned is told as a whole), but
// readiness fails until the problem is mended.
func (s *session) setUnsound(ctx context.Context, problems []Problem) {
	var unsound error
	if fatal := fatalOnly(problems); len(fatal) > 0 {
		unsound = &SetupError{Problems: fatal}
	}
	f := s.f
	f.mu.Lock()
	before := f.unsound
	f.unsound = unsound
	f.mu.Unlock()
	switch {
	case unsound != nil && (before == nil || before.Error() != unsound.Error()):
		s.log.LogAttrs(ctx, slog.LevelError, "capture is not sound any more", slog.Any("error", unsound))
	case unsound == nil && before != nil:
		s.log.LogAttrs(ctx, slog.LevelInfo, "capture is sound again")
	}
}

// checkSources compares each source with its stored fingerprint. On a
// difference one transaction stores the new one and emits "all topics of the
// table": it has a position above every stamp given, is replayed after a
// restart, and reaches every node.
func (s *session) checkSources(ctx context.Context) error {
	for _, source := range s.f.cfg.Program.Sources() {
		if err := s.checkSource(ctx, source); err != nil {
			return fmt.Errorf("watch %s.%s: %w", source.Schema, source.Table, err)
		}
	}
	return nil
}

func (s *session) checkSource(ctx context.Context, source *contract.Source) error {
	name := source.Schema + "." + source.Table
	return pgx.BeginFunc(ctx, s.watchConn, func(tx pgx.Tx) error {
		var now string
		if err := tx.QueryRow(ctx, fingerprintSQL, source.Schema, source.Table, s.f.cfg.Publication).Scan(&now); err != nil {
			return err
		}
		// Changes nothing, and takes no xid, where the fingerprint is the same.
		tag, err := tx.Exec(ctx, `
insert into freshet.fingerprint as f (source, value)
select $1, $2 where not exists (select from freshet.fingerprint where source = $1 and value = $2)
on conflict (source) do update set value = excluded.value where f.value <> excluded.value`, name, now)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, "a source is new here, or its shape or publication changed: all its topics are told", slog.String("source", name))
		_, err = tx.Exec(ctx, `select pg_logical_emit_message(true, $1, $2)`, messageSource, name)
		return err
	})
}
