package wal_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// All nodes of an epoch have the same secret, another epoch has another; and whoever may
// read the epoch, as everybody may, can't read it.
func TestSecret(t *testing.T) {
	server := testkit.NewServer(t, nil)
	url := server.Template(t, "wal", prepare)
	secret := func(c *wal.Config) { c.Secret = true }
	one, other, without := follow(t, url, secret), follow(t, url, secret), follow(t, url)
	first, _, _ := one.Place()
	drawn := one.Secret(first.Epoch)
	require.Len(t, drawn, 32)
	require.Equal(t, drawn, other.Secret(first.Epoch))
	require.Nil(t, without.Secret(first.Epoch), "it was not asked for")
	require.Nil(t, one.Secret(first.Epoch+1))

	conn := testkit.Conn(t, url)
	ctx := testkit.Context(t)
	_, err := conn.Exec(ctx, `create role stranger`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `set role stranger`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `select epoch, system_identifier, timeline, postmaster_start, database from freshet.incarnation`)
	require.NoError(t, err)
	var refused *pgconn.PgError
	_, err = conn.Exec(ctx, `select secret from freshet.incarnation`)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "42501", refused.Code)

	server.Restart(t)
	one.await(t, "the next epoch", func() bool { at, _, _ := one.Place(); return at.Epoch > first.Epoch })
	next, _, _ := one.Place()
	require.Len(t, one.Secret(next.Epoch), 32)
	require.NotEqual(t, drawn, one.Secret(next.Epoch))
	require.Nil(t, one.Secret(first.Epoch))
}
