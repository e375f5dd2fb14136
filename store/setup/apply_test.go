package setup_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// counted counts the statements of a connection.
type counted struct{ statements atomic.Int64 }

func (c *counted) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.statements.Add(1)
	return ctx
}

func (c *counted) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Four times the sources take four times the statements, and not sixteen times: some
// are set up by their primary key, others by another index, and one is partitioned.
func TestApply_statementsGrowWithTheSources(t *testing.T) {
	t.Parallel()
	applied := func(n int) int64 {
		t.Helper()
		ctx, url := testkit.Context(t), testkit.Database(t)
		require.NoError(t, setup.Migrate(ctx, url))
		var tables strings.Builder
		tables.WriteString(`create table whole (part text, id int, primary key (part, id)) partition by list (part);
			create table part partition of whole for values in ('a');`)
		sources := []testkit.Source{{Table: "whole", Topics: []string{"wholes/{part}"}}}
		for i := range n {
			fmt.Fprintf(&tables, `create table t%d (room text not null, id int primary key); create unique index on t%[1]d (room, id);`, i)
			template := "ids/{id}"
			if i%2 == 0 {
				template = "rooms/{room}"
			}
			sources = append(sources, testkit.Source{Table: fmt.Sprint("t", i), Topics: []string{fmt.Sprintf("t%d/%s", i, template)}})
		}
		testkit.Exec(t, url, tables.String())
		program := testkit.Contract(t, sources...)
		config, err := pgx.ParseConfig(url)
		require.NoError(t, err)
		all := new(counted)
		config.Tracer = all
		conn, err := pgx.ConnectConfig(ctx, config)
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		left, err := setup.Apply(ctx, conn, program, "freshet")
		require.NoError(t, err)
		require.Empty(t, setup.Fatal(left))
		var published int
		require.NoError(t, conn.QueryRow(ctx, `select count(*) from pg_publication_rel`).Scan(&published))
		require.Equal(t, n+1, published)
		return all.statements.Load()
	}
	few, many := applied(3), applied(12)
	t.Logf("%d statements for 3 sources, %d for 12", few, many)
	require.LessOrEqual(t, many, 4*few)
}
