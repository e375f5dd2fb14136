package depths

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// job is what a service enqueues with each write.
type job struct {
	Message string `json:"message"`
	Done    string `json:"done"`
}

func (job) Kind() string { return "message" }

// withRiver migrates river's tables, and returns a client that only inserts.
func withRiver(t *testing.T, database string) *river.Client[pgx.Tx] {
	t.Helper()
	ctx := testkit.Context(t)
	pool, err := pgxpool.New(ctx, database)
	require.NoError(t, err)
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	require.NoError(t, err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	require.NoError(t, err)
	return jobs
}

// G5, G6: a job of river's is in the very transaction of the message that it is
// about: there are as many of the one as of the other, also when a transaction
// is given up after both.
func TestDepth_river(t *testing.T) {
	database := testkit.Migrated(t)
	jobs := withRiver(t, database)
	var db *store.DB
	n := serve(t, database, func(n *server.Node) storage {
		d := n.DB()
		db = d
		s := overStore(d)
		s.insert = func(ctx context.Context, m *Message) error {
			return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				if err := insertOn(ctx, tx, *m); err != nil {
					return err
				}
				_, err := jobs.InsertTx(ctx, tx, job{Message: m.ID, Done: "created"}, nil)
				return err
			})
		}
		s.remove = func(ctx context.Context, m Message) error {
			return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				// Which river does by COPY.
				if _, err := jobs.InsertManyFastTx(ctx, tx, []river.InsertManyParams{{Args: job{Message: m.ID, Done: "deleted"}}}); err != nil {
					return err
				}
				return removeOn(ctx, tx, m)
			})
		}
		return s
	})
	seen := stress(t, n)

	ctx := testkit.Context(t)
	given := uuid.NewString()
	err := db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, insertOn(ctx, tx, Message{ID: given, Conversation: "0", Author: "ann", Body: "hi"}))
		_, err := jobs.InsertTx(ctx, tx, job{Message: given, Done: "created"}, nil)
		require.NoError(t, err)
		return errDiscard
	})
	require.True(t, errors.Is(err, errDiscard))

	conn := testkit.Conn(t, database)
	for _, r := range []struct {
		done string
		of   func(r *row) bool
	}{
		{"created", func(r *row) bool { return r.made != 0 }},
		{"deleted", func(r *row) bool { return r.gone != 0 }},
	} {
		var want []string
		for id, row := range seen.rows {
			if r.of(row) {
				want = append(want, id)
			}
		}
		rows, err := conn.Query(ctx, "select args->>'message' from river_job where args->>'done' = $1", r.done)
		require.NoError(t, err)
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.NotEmpty(t, want)
		require.ElementsMatch(t, want, got, r.done)
	}
}
