package store_test

import (
	"context"
	"testing"

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

// BenchmarkSession is a read of one statement, and a mutation, as the pool's role
// ("nobody") and as a caller with claims and with a role.
func BenchmarkSession(b *testing.B) {
	ctx, d := testkit.Context(b), openPoliced(b, policed(b))
	const claims = `{"aud":"freshet","email":"ada@example.com","exp":1790000000,"iat":1789996400,"iss":"https://issuer.example.com/realms/one","scope":"openid messages.read messages.write","sub":"6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a","tenant":"a"}`
	for _, c := range []struct {
		name    string
		session *store.Session
	}{{"nobody", nil}, {"claims", &store.Session{Claims: claims}}, {"role", &store.Session{Claims: claims, Role: "blue"}}} {
		ctx := as(ctx, c.session)
		b.Run("Read/"+c.name, func(b *testing.B) {
			var n int
			for b.Loop() {
				require.NoError(b, d.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
					return tx.QueryRow(ctx, "select count(*) from pg_class where relname > $1", "t").Scan(&n)
				}))
			}
		})
	}
}
