package wal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
)

// secretBytes are drawn for each epoch, by the first node that wants a secret.
const secretBytes = 32

// readSecret returns what the nodes of an epoch share: in the row that names the epoch,
// in a column that not everybody may read who may read the rest.
func readSecret(ctx context.Context, conn *pgx.Conn, epoch freshet.Epoch) (secret []byte, err error) {
	err = conn.QueryRow(ctx, `select secret from freshet.incarnation where epoch = $1`, epoch).Scan(&secret)
	if err == nil && len(secret) == 0 {
		drawn := make([]byte, secretBytes)
		_, _ = rand.Read(drawn) // never fails
		// The first of several wins. Also where the default is a read-only transaction,
		// as for the epoch.
		err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `update freshet.incarnation set secret = coalesce(secret, $1) where epoch = $2 returning secret`, drawn, epoch).Scan(&secret)
		})
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, errOtherHistory
	case err != nil:
		return nil, fmt.Errorf("read the epoch's secret: %w", err)
	}
	return secret, nil
}

// resolveSecret reads the secret, if there is a use for it. The epoch's session begins.
func (f *Feed) resolveSecret(ctx context.Context, conn *pgx.Conn, epoch freshet.Epoch) error {
	if !f.cfg.Secret {
		return nil
	}
	secret, err := readSecret(ctx, conn, epoch)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.secret, f.secretOf = secret, epoch
	f.mu.Unlock()
	return nil
}

// Secret returns what nodes of this database have in common in an epoch, and nobody else
// who may not read their tables; nil: it isn't known, or Config.Secret isn't set. It must
// not be changed.
func (f *Feed) Secret(epoch freshet.Epoch) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secretOf != epoch {
		return nil
	}
	return f.secret
}
