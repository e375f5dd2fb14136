package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// provenKey is the key, beside the fingerprints, of the position up to which
// everything was proven visible (decision 0008). A window that begins above it is
// one that was just made, by a node or by somebody else, or that somebody has moved:
// a commit below its position may still be invisible. Whoever keeps a window moves
// it a replay window behind what was proven, so it begins below.
const provenKey = "proven visible"

// home names the database of a position: the row can travel with a dump.
func (i incarnation) home() string { return fmt.Sprintf("%s/%d", i.systemIdentifier, i.database) }

// recordProven stores that everything up to lsn was proven visible, unless more is
// stored already: all nodes of the database write the same row, and each of what
// they know is true. It does so only in the history that the session serves, since a
// position of another one proves nothing. Where the database refuses (it is
// read-only, the table is locked) nothing is lost: the next start waits as for a new
// slot.
func (s *session) recordProven(ctx context.Context, conn *pgx.Conn, lsn pglogrepl.LSN) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '100ms'`); err != nil {
			return err
		}
		var same bool
		if err := tx.QueryRow(ctx, `select `+sameHistory(1), history{s.f.epoch, s.home}.arguments()...).Scan(&same); err != nil {
			return err
		}
		if !same {
			return errOtherHistory
		}
		_, err := tx.Exec(ctx, `
insert into freshet.fingerprint as f (source, value) values ($1, $2 || ' ' || $3)
on conflict (source) do update set value = excluded.value
where case when split_part(f.value, ' ', 1) = $2 and split_part(f.value, ' ', 2) ~ '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$'
  then split_part(f.value, ' ', 2)::pg_lsn < $3::text::pg_lsn else true end`, provenKey, s.home.home(), lsn.String())
		return err
	})
	switch {
	case err == nil:
		s.proven.Store(uint64(lsn))
	case !refused(err):
		return fmt.Errorf("record what was proven visible: %w", err)
	}
	return nil
}

// lookUpProven reads what recordProven stored for this database.
func (s *session) lookUpProven(ctx context.Context) (pglogrepl.LSN, error) {
	var text string
	err := s.watchConn.QueryRow(ctx, `select value from freshet.fingerprint where source = $1`, provenKey).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up what was proven visible: %w", err)
	}
	position, ours := strings.CutPrefix(text, s.home.home()+" ")
	if !ours {
		return 0, nil
	}
	lsn, err := pglogrepl.ParseLSN(position)
	if err != nil {
		return 0, nil //nolint:nilerr // written by another version: nothing is known
	}
	return lsn, nil
}
