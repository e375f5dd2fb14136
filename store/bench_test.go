package store_test

import (
	"testing"

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
