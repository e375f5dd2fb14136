package depths

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql's driver "pgx"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
)

const (
	insertSQL = "insert into messages (id, conversation, author, body) values ($1, $2, $3, $4)"
	removeSQL = "delete from messages where conversation = $1 and id = $2"
	listSQL   = "select id::text, conversation, author, body from messages where conversation = $1 order by create_time"
)

// clients are clients of Postgres that have never heard of Freshet: depth (a).
// Each makes its storage over a pool of its own.
var clients = map[string]func(t *testing.T, url string) storage{
	"pgx":          overPgx,
	"database/sql": overSQL,
	"GORM":         overGORM,
	"bun":          overBun,
}

func overPgx(t *testing.T, url string) storage {
	pool, err := pgxpool.New(testkit.Context(t), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return overPool(pool)
}

// overPool inserts with one statement and no transaction of its own, and
// deletes in one.
func overPool(pool *pgxpool.Pool) storage {
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			_, err := pool.Exec(ctx, insertSQL, m.ID, m.Conversation, m.Author, m.Body)
			return err
		},
		remove: func(ctx context.Context, m Message) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, removeSQL, m.Conversation, m.ID)
				return err
			})
		},
		list: func(ctx context.Context, conversation string) ([]Message, error) {
			rows, err := pool.Query(ctx, listSQL, conversation)
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowToStructByName[Message])
		},
	}
}

func openSQL(t *testing.T, url string) *sql.DB {
	pool, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

func overSQL(t *testing.T, url string) storage {
	pool := openSQL(t, url)
	inTx := func(ctx context.Context, query string, args ...any) error {
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after COMMIT it does nothing
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return err
		}
		return tx.Commit()
	}
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			return inTx(ctx, insertSQL, m.ID, m.Conversation, m.Author, m.Body)
		},
		remove: func(ctx context.Context, m Message) error {
			return inTx(ctx, removeSQL, m.Conversation, m.ID)
		},
		list: func(ctx context.Context, conversation string) (list []Message, err error) {
			rows, err := pool.QueryContext(ctx, listSQL, conversation)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			for rows.Next() {
				var m Message
				if err := rows.Scan(&m.ID, &m.Conversation, &m.Author, &m.Body); err != nil {
					return nil, err
				}
				list = append(list, m)
			}
			return list, rows.Err()
		},
	}
}

func overGORM(t *testing.T, url string) storage {
	db, err := gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			return gorm.G[Message](db).Create(ctx, m) // in a transaction, as GORM's writes are
		},
		remove: func(ctx context.Context, m Message) error {
			return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				return tx.Where("conversation = ?", m.Conversation).Delete(&m).Error
			})
		},
		list: func(ctx context.Context, conversation string) ([]Message, error) {
			return gorm.G[Message](db).Where("conversation = ?", conversation).Order("create_time").Find(ctx)
		},
	}
}

func overBun(t *testing.T, url string) storage {
	db := bun.NewDB(openSQL(t, url), pgdialect.New())
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			_, err := db.NewInsert().Model(m).Exec(ctx)
			return err
		},
		remove: func(ctx context.Context, m Message) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewDelete().Model(&m).WherePK().Where("conversation = ?", m.Conversation).Exec(ctx)
				return err
			})
		},
		list: func(ctx context.Context, conversation string) (list []Message, err error) {
			err = db.NewSelect().Model(&list).Where("conversation = ?", conversation).Order("create_time").Scan(ctx)
			return list, err
		},
	}
}

// G5, G6, F48: a service on any client of Postgres.
func TestDepth_anyClient(t *testing.T) {
	for name, open := range clients {
		t.Run(name, func(t *testing.T) {
			database := testkit.Migrated(t)
			s := open(t, database)
			stress(t, serve(t, database, func(*server.Node) storage { return s }))
		})
	}
}
