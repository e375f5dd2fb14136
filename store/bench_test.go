package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// BenchmarkInTx is one mutation, against the same statement by itself.
func BenchmarkInTx(b *testing.B) {
	ctx, url := testkit.Context(b), migrated(b)
	d := open(b, store.Config{URL: url, MaxConns: 1})
	b.Run("InTx", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, d.InTx(ctx, create))
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, d.Read(ctx, create)) // nothing keeps a read from writing
		}
	})
}

// BenchmarkSession is a call as the pool's role (nobody), and beside it as a caller with
// claims, and with a role too: in turns, so that what else the machine does falls to
// each alike. It reports the median of each, in µs.
func BenchmarkSession(b *testing.B) {
	ctx, raw := testkit.Context(b), policed(b)
	d := openPoliced(b, raw)
	// A page of fifty rows, of a table without policies, so that each finds the same.
	testkit.Exec(b, strings.Replace(raw, "app@", "postgres@", 1), `create table pages as
		select i, 'words and words ' || i as body from generate_series(1, 5000) i; alter table pages add primary key (i);
		grant select, update on pages to app, blue; analyze pages`)
	const claims = `{"aud":"freshet","email":"ada@example.com","exp":1790000000,"iat":1789996400,"iss":"https://issuer.example.com/realms/one","scope":"openid messages.read messages.write","sub":"6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a","tenant":"a"}`
	callers := []struct {
		name    string
		session *store.Session
	}{{"nobody", nil}, {"claims", &store.Session{Claims: claims}}, {"role", &store.Session{Claims: claims, Role: "blue"}}}
	row := func(ctx context.Context, tx pgx.Tx) error {
		var body string
		return tx.QueryRow(ctx, "select body from pages where i = $1", 7).Scan(&body)
	}
	page := func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "select i, body from pages where i > $1 order by i limit 50", 100)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			I    int
			Body string
		}])
		return err
	}
	for _, c := range []struct {
		name string
		run  func(context.Context, func(context.Context, pgx.Tx) error) error
		fn   func(context.Context, pgx.Tx) error
	}{{"Read a row", d.Read, row}, {"Read a page", d.Read, page}, {"ReadTx a page", d.ReadTx, page}, {"InTx a row", d.InTx, row}} {
		b.Run(c.name, func(b *testing.B) {
			took := make(map[string][]float64)
			for b.Loop() {
				for _, who := range callers {
					ctx, began := as(ctx, who.session), time.Now()
					require.NoError(b, c.run(ctx, c.fn))
					took[who.name] = append(took[who.name], float64(time.Since(began).Nanoseconds())/1000)
				}
			}
			for who, all := range took {
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], who+"-µs")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
