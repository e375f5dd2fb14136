package messages

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/store/setup"
)

//go:embed migrations/*.sql
var files embed.FS

// migrations make the table messages, in the schema public as an application's
// would be, and are recorded beside it. They build on Freshet's own, which go
// first on the way up and last on the way down.
//
// Freshet used to have the table among its own migrations, as number 2. A
// database that it was made in like that is taken over as it is.
var migrations = setup.Migrations{
	Files:   files,
	Record:  "public.messages_goose_db_version",
	Queries: func(db setup.DBTX) any { return messagesdb.New(db) },
	Former:  &setup.Former{Record: "freshet.goose_db_version", Version: 2, Table: "public.messages"},
}

// Migrate brings the service's table in the database at url up to date, after
// setup.Migrate has done that for Freshet's. See setup.Migrations.Up.
func Migrate(ctx context.Context, url string) error {
	config, err := setup.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	return MigrateConfig(ctx, config)
}

// MigrateConfig is Migrate with the parameters of a connection, which it changes.
func MigrateConfig(ctx context.Context, config *pgx.ConnConfig) error {
	if err := migrations.UpConfig(ctx, config); err != nil {
		return err
	}
	conn, err := setup.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	if _, err := conn.Exec(ctx, restoreDefaultSQL); err != nil {
		return fmt.Errorf("give messages.id its default back: %w", err)
	}
	return nil
}

// restoreDefaultSQL gives ids back the default that DROP SCHEMA freshet CASCADE takes from
// them, as the function is in it: the table and the record stay, so that nothing else would
// show, and each insert would fail. A newer program may have no use for the default.
const restoreDefaultSQL = `do $$ begin
if exists (select from pg_attribute where attrelid = to_regclass('public.messages') and attname = 'id' and not atthasdef)
  and not exists (select from public.messages_goose_db_version where version_id > 1) then
  alter table public.messages alter column id set default freshet.uuidv7();
end if;
end $$`

// MigrateDown takes back the service's latest migration, with the data that it
// brought. See setup.Migrations.Down.
func MigrateDown(ctx context.Context, url string) error { return migrations.Down(ctx, url) }

// MigrateStatus lists the service's migrations.
func MigrateStatus(ctx context.Context, url string) ([]setup.Migration, error) {
	return migrations.Status(ctx, url)
}

// Verify proves that the service's queries fit the database at url; see
// setup.Migrations.Verify.
func Verify(ctx context.Context, url string) error { return migrations.Verify(ctx, url) }

// VerifyConfig is Verify with the parameters of a connection, which it changes.
func VerifyConfig(ctx context.Context, config *pgx.ConnConfig) error {
	return migrations.VerifyConfig(ctx, config)
}
