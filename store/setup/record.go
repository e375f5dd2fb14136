package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/pressly/goose/v3/database"
)

// record is the table in which goose keeps what ran. Goose calls the methods
// that change something with the advisory lock held.
type record struct {
	database.Store
	*Migrations
}

// CreateVersionTable makes the record, after its schema. (Without the lock, two
// CREATE SCHEMA at once can fail.)
func (r *record) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	// CREATE SCHEMA IF NOT EXISTS wants the right to create even if it exists.
	schema, _, _ := strings.Cut(r.Record, ".")
	var exists bool
	if err := db.QueryRowContext(ctx, "select exists (select from pg_namespace where nspname = $1)", schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := db.ExecContext(ctx, "create schema "+schema); err != nil {
			return err
		}
	}
	if err := r.Store.CreateVersionTable(ctx, db); err != nil {
		return err
	}
	// Every node looks whether the database is one that it knows.
	_, err := db.ExecContext(ctx, "grant select on "+r.Record+" to public")
	return err
}

// Insert records a migration. The first one is goose's own number 0, in the
// transaction that makes the table: then, and never again, a former record
// counts. Once one of ours is taken back it must not come back by that.
func (r *record) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	if err := r.Store.Insert(ctx, db, req); err != nil || req.Version != 0 || r.Former == nil {
		return err
	}
	for _, table := range []string{r.Former.Record, r.Former.Table} {
		if exists, err := tableExists(ctx, db, table); err != nil || !exists {
			return err
		}
	}
	// With the time at which it ran.
	_, err := db.ExecContext(ctx, `
insert into `+r.Record+` (version_id, is_applied, tstamp)
select 1, true, max(tstamp) from `+r.Former.Record+` where version_id = $1 and is_applied having count(*) > 0`, r.Former.Version)
	return err
}

// Delete takes a migration out of the record, and out of the former one: a
// program that knows only that must not take it for applied.
func (r *record) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	if err := r.Store.Delete(ctx, db, version); err != nil || version != 1 || r.Former == nil {
		return err
	}
	exists, err := tableExists(ctx, db, r.Former.Record)
	if err == nil && exists {
		_, err = db.ExecContext(ctx, `delete from `+r.Former.Record+` where version_id = $1`, r.Former.Version)
	}
	return err
}

// ListMigrations leaves out what is retired: goose would look for its file.
func (r *record) ListMigrations(ctx context.Context, db database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	all, err := r.Store.ListMigrations(ctx, db)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m *database.ListMigrationsResult) bool { return r.isRetired(m.Version) }), nil
}

// GetLatestVersion is the highest that isn't retired.
func (r *record) GetLatestVersion(ctx context.Context, db database.DBTxConn) (int64, error) {
	all, err := r.ListMigrations(ctx, db)
	latest := int64(-1)
	for _, m := range all {
		latest = max(latest, m.Version)
	}
	if err == nil && latest < 0 {
		err = database.ErrVersionNotFound
	}
	return latest, err
}

// TableExists spares a first migration goose's own way to find out, which is a
// query that fails and leaves an ERROR in the database's log.
func (r *record) TableExists(ctx context.Context, db database.DBTxConn) (bool, error) {
	return tableExists(ctx, db, r.Record)
}

// tableExistsSQL needs no right to the table's schema, as to_regclass does.
const tableExistsSQL = `
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || c.relname = $1)`

func tableExists(ctx context.Context, db database.DBTxConn, table string) (exists bool, err error) {
	err = db.QueryRowContext(ctx, tableExistsSQL, table).Scan(&exists)
	return exists, err
}
