package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/gen/db"
)

// tag is what a connection is known to read. It can't change under a live
// connection: a standby that is promoted, and a server that crashes, end or
// refuse theirs.
type tag struct {
	epoch  freshet.Epoch
	opened time.Time
}

// tagKey is where a connection's tag is, in its CustomData.
const tagKey = "freshet.tag"

func tagOf(conn *pgx.Conn) tag {
	t, _ := conn.PgConn().CustomData()[tagKey].(tag)
	return t
}

// tagConn looks, once per connection, at which history the connection reads. An
// error refuses the connection.
func tagConn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	row, err := db.New(conn).ConnectionTag(ctx)
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNoEpoch
	case errors.As(err, &pg) && (pg.Code == codeUndefinedTable || pg.Code == codeInvalidSchema):
		return fmt.Errorf("%w: %w", ErrNoEpoch, err)
	case errors.As(err, &pg) && pg.Code == codeFeatureNotSupported: // unlogged tables can't be read
		return ErrStandby
	case err != nil:
		return err
	case row.InRecovery:
		return ErrStandby
	}
	conn.PgConn().CustomData()[tagKey] = tag{epoch: freshet.Epoch(row.Epoch), opened: time.Now()}
	return nil
}

// wantKey carries what an acquisition wants to checkTag.
type wantKey struct{}

type want struct {
	epoch freshet.Epoch
	since time.Time
}

// checkTag decides whether a connection may serve the call: see
// pgxpool.Config.PrepareConn for the four answers.
func checkTag(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	w, _ := ctx.Value(wantKey{}).(want)
	t := tagOf(conn)
	switch {
	case w.epoch == 0 || w.epoch == t.epoch:
		return true, nil
	case t.epoch > w.epoch:
		return true, ErrEpoch // the caller is behind, the connection is not
	case t.opened.After(w.since):
		return false, ErrEpoch // just opened, and the database is still behind
	default:
		return false, nil // left over from an earlier epoch: open another
	}
}

// cancelGuard keeps cancel requests from a connection while it waits for the
// answer to COMMIT. When a connection breaks, pgx asks the server to cancel what
// it was doing, which is right for a query; a COMMIT that waits for a standby
// would become visible before the standby has it, and one that is still being
// checked would fail.
type cancelGuard struct{ committing atomic.Bool }

const guardKey = "freshet.guard"

var errCommitting = errors.New("a commit is not canceled")

// guardCancel gives a connection that is to be opened its guard. pgx dials for a
// cancel request as it does for a connection, so that is the place to refuse.
func guardCancel(_ context.Context, config *pgx.ConnConfig) error {
	guard := new(cancelGuard)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if guard.committing.Load() {
			return nil, errCommitting
		}
		return dial(ctx, network, address)
	}
	after := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[guardKey] = guard
		if after == nil {
			return nil
		}
		return after(ctx, conn)
	}
	return nil
}

// guardCommit guards the connection until the returned function is called,
// which is not to be done for one that broke.
func guardCommit(conn *pgx.Conn) (answered func()) {
	guard := conn.PgConn().CustomData()[guardKey].(*cancelGuard)
	guard.committing.Store(true)
	return func() { guard.committing.Store(false) }
}
