package testkit

import (
	"embed"
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/one-record/*.sql
var oneRecord embed.FS

// OneRecord migrates a database as Freshet did when the table messages was among
// its own migrations, up to a version.
func OneRecord(t testing.TB, url string, version int64) {
	t.Helper()
	Exec(t, url, `create schema freshet`)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	record, err := database.NewStore(database.DialectPostgres, "freshet.goose_db_version")
	require.NoError(t, err)
	files, err := fs.Sub(oneRecord, "testdata/one-record")
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectCustom, stdlib.OpenDB(*config), files,
		goose.WithStore(record), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	_, err = p.UpTo(Context(t), version)
	require.NoError(t, err)
}
