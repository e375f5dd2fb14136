package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/primary"
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
// out. A primary that was left behind by a failover can't answer then. Nor can
// another database, or a primary that was left behind, whose epoch began in the same
// second: all connections of an epoch are to be of the database, and the run of its
// server, that the first one was of. (Which that is, Node.Verify proves at start.) Errors are the store's: ErrEpoch, ErrStandby,
// ErrNoEpoch, ErrOtherDatabase, and ErrPooled.
//
// Where the pool's URL names several hosts, its connections lead to the primary among
// them, as the store's do.
//
// Once a Call of a later epoch acquires a connection, those of the epochs before are cut:
// what runs there may wait for a server that hangs while another has its place.
//
// It is called before the pool is made. The hooks that are set already go on to be
// called, after its own, and BeforeConnect and the Tracer before it. A context without a Call, and a Call with neither Epoch
// nor Guarded, takes any connection. Values are sent as UTF-8 from then on, whatever the
// database or the role has set.
func Guard(config *pgxpool.Config) {
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"

	g := &guardedPool{history{finder: primary.NewFinder(nil)}}
	if others := config.ConnConfig.Tracer; others == nil {
		config.ConnConfig.Tracer = g
	} else {
		config.ConnConfig.Tracer = multitracer.New(others, g)
	}
	before := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, conn *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, conn); err != nil {
				return err
			}
		}
		found, err := g.finder.Narrow(ctx, conn)
		if err != nil {
			return fmt.Errorf("guarded pool: %w: %w", ErrUnavailable, err)
		}
		*conn = *found
		g.sockets.watch(conn)
		return nil
	}

	// Whose server is gone without a word doesn't answer a ping either.
	ping := config.ShouldPing
	config.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		switch g, _ := p.Conn.PgConn().CustomData()[guardedKey].(guarded); {
		case wantGuarded(ctx) > g.epoch:
			return false // and checkGuarded has it replaced
		case ping != nil:
			return ping(ctx, p)
		default:
			return p.IdleDuration > time.Second // as the pool does by itself
		}
	}

	opened, same := config.AfterConnect, new(sameDatabase)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := tagGuarded(ctx, conn, same); err != nil {
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

// guardedPool is what Guard keeps of a pool. It hears of each acquisition, before that
// waits for a connection.
type guardedPool struct{ history }

// TraceAcquireStart does for the pool what DB.Meet does for the store's.
func (g *guardedPool) TraceAcquireStart(ctx context.Context, pool *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	g.meet(wantGuarded(ctx), pool)
	return ctx
}

// TraceAcquireEnd does nothing.
func (*guardedPool) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {}

// TraceQueryStart does nothing.
func (*guardedPool) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd does nothing.
func (*guardedPool) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// placeSQL names the database of a session, and the run of its server: an epoch is of
// one run, and a primary that was left behind is the same database.
const placeSQL = "select concat_ws(' ', (select system_identifier from pg_control_system()), oid, (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint) from pg_database where datname = current_database(); "

// sameDatabase remembers where the latest epoch's first connection led.
type sameDatabase struct {
	mu    sync.Mutex // guards the fields below
	epoch freshet.Epoch
	place string
}

// holds reports whether all connections of the epoch so far, of which the latest
// is remembered, led to the same place.
func (s *sameDatabase) holds(epoch freshet.Epoch, place string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch > s.epoch {
		s.epoch, s.place = epoch, place
	}
	return epoch < s.epoch || place == s.place
}

func tagGuarded(ctx context.Context, conn *pgx.Conn, same *sameDatabase) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, placeSQL+tagSQL).ReadAll()
	t, err := parseTag(results, err)
	if err != nil {
		return fmt.Errorf("guarded pool: %w", err)
	}
	if t.backend != conn.PgConn().PID() {
		return fmt.Errorf("guarded pool: %w", ErrPooled)
	}
	if !same.holds(t.epoch, string(results[0].Rows[0][0])) {
		return fmt.Errorf("guarded pool: %w: %w", ErrUnavailable, ErrOtherDatabase)
	}
	conn.PgConn().CustomData()[guardedKey] = guarded{tag: t.tag}
	lineOf(conn).epoch.Store(uint32(t.epoch))
	return nil
}

// wantGuarded is the epoch that an acquisition asks for; 0: any.
func wantGuarded(ctx context.Context) freshet.Epoch {
	call := callOf(ctx)
	return cmp.Or(call.Epoch, call.Guarded)
}

// checkGuarded answers as PrepareConn does. Unlike checkTag it doesn't know when
// the call began to wait, and so whether a connection was opened for it: one that
// has never been used counts as that.
func checkGuarded(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	want := wantGuarded(ctx)
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
