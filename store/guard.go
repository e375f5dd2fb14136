package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrPooled refuses a guarded pool's connection that leads through a pooler.
var ErrPooled = errors.New("the connection leads through a pooler, which may hand the next statement to another server: give the guarded pool a direct URL, or use store.DB, which proves it in each transaction")

// guardedKey is where a guarded connection's tag is, in its CustomData: not
// tagKey, which is the store's own.
const guardedKey = "freshet.guarded"

// guarded is a connection's tag in somebody else's pool.
type guarded struct {
	tag
	used bool // it has been handed out before
}

// Guard ties the connections of a pool that isn't the store's to the epoch, as the
// store's own are: each is tagged with what it reads when it opens, and one of
// another epoch than the Call in an acquisition's context asks for is not handed
// out. A primary that was left behind by a failover can't answer then. Errors are
// the store's: ErrEpoch, ErrStandby, ErrNoEpoch, and ErrPooled.
//
// It is called before the pool is made. The hooks that are set already go on to be
// called, after its own. A context without a Call, and a Call without an Epoch,
// takes any connection. Values are sent as UTF-8 from then on, whatever the
// database or the role has set.
func Guard(config *pgxpool.Config) {
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"

	opened := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := tagGuarded(ctx, conn); err != nil {
			return err
		}
		if opened == nil {
			return nil
		}
		return opened(ctx, conn)
	}

	prepare := config.PrepareConn
	acquire := config.BeforeAcquire //nolint:staticcheck // deprecated, but somebody may have set it
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		ok, err := checkGuarded(ctx, conn)
		switch {
		case !ok || err != nil:
			return ok, err
		case prepare != nil:
			return prepare(ctx, conn)
		case acquire != nil: // which pgxpool leaves out where there is a PrepareConn
			return acquire(ctx, conn), nil
		default:
			return true, nil
		}
	}
}

func tagGuarded(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, tagSQL).ReadAll()
	t, err := parseTag(results, err)
	if err != nil {
		return fmt.Errorf("guarded pool: %w", err)
	}
	if t.backend != conn.PgConn().PID() {
		return fmt.Errorf("guarded pool: %w", ErrPooled)
	}
	conn.PgConn().CustomData()[guardedKey] = guarded{tag: t.tag}
	return nil
}

// checkGuarded answers as PrepareConn does. Unlike checkTag it doesn't know when
// the call began to wait, and so whether a connection was opened for it: one that
// has never been used counts as that.
func checkGuarded(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	want := callOf(ctx).Epoch
	g, _ := conn.PgConn().CustomData()[guardedKey].(guarded)
	first := !g.used
	g.used = true
	conn.PgConn().CustomData()[guardedKey] = g
	switch {
	case want == 0 || want == g.epoch:
		return true, nil
	case g.epoch > want:
		return true, ErrEpoch // the caller is behind, the connection is not
	case first:
		return false, ErrEpoch // the database itself is behind
	default:
		return false, nil // left over from an earlier epoch: open another
	}
}
