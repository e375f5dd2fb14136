package store_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// policed returns the URL of a database with a table that has row security, for
// the role app, which is a member of two tenants' roles without having their rights.
// A row is seen by who has its tenant in the claims; the role blue sees half of them.
func policed(t testing.TB) string {
	t.Helper()
	raw := testkit.Template(t, "policed", func(ctx context.Context, raw string) error {
		if err := prepare(ctx, raw); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, raw)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, `
create role app login noinherit; create role red; create role blue; create role stranger; grant red, blue to app;
create table notes (id int primary key generated always as identity, tenant text not null, body text not null unique);
insert into notes (tenant, body) values ('a', 'a1'), ('a', 'a2'), ('b', 'b1');
alter table notes enable row level security;
create function tenant() returns text language sql stable as $$ select nullif(current_setting('request.jwt.claims', true), '')::json ->> 'tenant' $$;
create policy mine on notes using (tenant = tenant());
create policy odd on notes as restrictive for select to blue using (body like '%1');
grant select, insert, update, delete on notes to app, red, blue`)
		return err
	})
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.User = url.User("app")
	return u.String()
}

type sessionKey struct{}

// as is a context whose calls run as somebody.
func as(ctx context.Context, s *store.Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

func openPoliced(t testing.TB, url string) *store.DB {
	t.Helper()
	return open(t, store.Config{URL: url, MaxConns: 1, Session: func(ctx context.Context) (*store.Session, error) {
		s, _ := ctx.Value(sessionKey{}).(*store.Session)
		return s, nil
	}})
}

var (
	tenantA  = &store.Session{Claims: `{"tenant":"a"}`}
	tenantB  = &store.Session{Claims: `{"tenant":"b"}`}
	blueA    = &store.Session{Claims: `{"tenant":"a"}`, Role: "blue"}
	nobody   = &store.Session{Claims: `{}`}
	stranger = &store.Session{Claims: `{"tenant":"a"}`, Role: "stranger"}
	absent   = &store.Session{Claims: `{"tenant":"a"}`, Role: "no such role"}
)

const seenSQL = "select coalesce(string_agg(body, ' ' order by id), '') from notes where id > $1"

// ways are the ways to send a function's first statement; each tells what it sees.
var ways = map[string]func(ctx context.Context, tx pgx.Tx) (seen string, err error){
	"QueryRow": func(ctx context.Context, tx pgx.Tx) (seen string, err error) {
		return seen, tx.QueryRow(ctx, seenSQL, 0).Scan(&seen)
	},
	"Query": func(ctx context.Context, tx pgx.Tx) (string, error) {
		rows, err := tx.Query(ctx, seenSQL, 0)
		if err != nil {
			return "", err
		}
		return pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	},
	"with an option": func(ctx context.Context, tx pgx.Tx) (seen string, err error) {
		return seen, tx.QueryRow(ctx, seenSQL, pgx.QueryExecModeExec, 0).Scan(&seen)
	},
	"rows with an option": func(ctx context.Context, tx pgx.Tx) (string, error) {
		rows, err := tx.Query(ctx, seenSQL, pgx.QueryExecModeExec, 0)
		if err != nil {
			return "", err
		}
		return pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	},
	"a batch": func(ctx context.Context, tx pgx.Tx) (seen string, err error) {
		b := new(pgx.Batch)
		b.Queue("select $1::int", 1)
		b.Queue(seenSQL, 0).QueryRow(func(row pgx.Row) error { return row.Scan(&seen) })
		return seen, tx.SendBatch(ctx, b).Close()
	},
	"Exec, then more": func(ctx context.Context, tx pgx.Tx) (seen string, err error) {
		tag, err := tx.Exec(ctx, "select from notes where id > $1", 0)
		if err == nil {
			err = tx.QueryRow(ctx, seenSQL, 0).Scan(&seen)
		}
		if n := len(seen); err == nil && tag.RowsAffected() != int64(n+1)/3 {
			err = errors.New("Exec has seen something else: " + tag.String())
		}
		return seen, err
	},
	"several in one Exec, then more": func(ctx context.Context, tx pgx.Tx) (seen string, err error) {
		tag, err := tx.Exec(ctx, "select 1; select from notes")
		if err == nil {
			err = tx.QueryRow(ctx, seenSQL, 0).Scan(&seen)
		}
		if n := len(seen); err == nil && tag.RowsAffected() != int64(n+1)/3 {
			err = errors.New("Exec has seen something else: " + tag.String())
		}
		return seen, err
	},
}

// F24: every way to ask sees what the caller's claims and role show, on the one
// connection that all of them share; and nothing of it is left there.
func TestSession_F24_whatIsSeen(t *testing.T) {
	t.Parallel()
	direct := policed(t)
	for name, d := range map[string]*store.DB{
		"direct":           openPoliced(t, direct),
		"through a pooler": openPoliced(t, testkit.NewPgBouncer(t, direct, "transaction").URL()),
	} {
		ctx := testkit.Context(t)
		for call, run := range calls(d) {
			for way, ask := range ways {
				for _, c := range []struct {
					session *store.Session
					want    string
				}{{tenantA, "a1 a2"}, {tenantB, "b1"}, {nobody, ""}, {blueA, "a1"}, {nil, ""}, {tenantA, "a1 a2"}} {
					var seen string
					require.NoError(t, run(as(ctx, c.session), func(ctx context.Context, tx pgx.Tx) (err error) {
						seen, err = ask(ctx, tx)
						return err
					}), "%s, %s, %s, %v", name, call, way, c.session)
					require.Equal(t, c.want, seen, "%s, %s, %s, %v", name, call, way, c.session)
					requireBlank(t, d)
				}
			}
		}
	}
}

type run = func(context.Context, func(context.Context, pgx.Tx) error) error

func calls(d *store.DB) map[string]run {
	audited := func(run run) run {
		return func(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
			call := &store.Call{Audit: true}
			err := run(store.WithCall(ctx, call), fn)
			if _, blind := call.Scanned(); blind != nil {
				return blind
			}
			return err
		}
	}
	return map[string]run{
		"Read": d.Read, "ReadTx": d.ReadTx, "InTx": d.InTx,
		"Read, audited": audited(d.Read), "InTx, audited": audited(d.InTx),
	}
}

// requireBlank: whoever has the connection next finds nothing of the last one.
func requireBlank(t *testing.T, d *store.DB) {
	t.Helper()
	var left string
	require.NoError(t, d.Ask(testkit.Context(t), "select coalesce(current_setting('request.jwt.claims', true), '') || ' ' || current_user", &left))
	require.Equal(t, " app", left)
}

// F24: nor is anything left by a call that fails, panics, or whose caller leaves.
func TestSession_F24_nothingIsLeft(t *testing.T) {
	t.Parallel()
	direct := policed(t)
	for name, d := range map[string]*store.DB{
		"direct":           openPoliced(t, direct),
		"through a pooler": openPoliced(t, testkit.NewPgBouncer(t, direct, "transaction").URL()),
	} {
		// A cancel request, whose sender hangs up early, ends PgBouncer 1.18 ("bad client
		// state"): through it, no call is broken off in the midst of a statement.
		breaksOff := name == "direct"
		for call, run := range calls(d) {
			ctx := as(testkit.Context(t), blueA)
			require.Error(t, run(ctx, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "select 1 / $1::int", 0)
				return err
			}), name, call)
			requireBlank(t, d)
			require.Error(t, run(ctx, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "select 1 / 0")
				return err
			}), name, call)
			requireBlank(t, d)
			require.Panics(t, func() {
				_ = run(ctx, func(ctx context.Context, tx pgx.Tx) error {
					rows, _ := tx.Query(ctx, seenSQL, 0)
					if !breaksOff {
						rows.Close()
					}
					panic("in the midst of its rows")
				})
			}, name, call)
			requireBlank(t, d)
			if !breaksOff {
				continue
			}
			leaving, leave := context.WithCancel(ctx)
			require.ErrorIs(t, run(leaving, func(ctx context.Context, tx pgx.Tx) error {
				time.AfterFunc(20*time.Millisecond, leave)
				_, err := tx.Exec(ctx, "select pg_sleep($1)", 60)
				return err
			}), context.Canceled, name, call)
			requireBlank(t, d)
		}
	}
}

// A role that the pool's may not take, or that isn't there, is ErrDenied, whatever is
// asked and however; and the pool is of as much use to others as before.
func TestSession_roleIsRefused(t *testing.T) {
	t.Parallel()
	direct := policed(t)
	for name, d := range map[string]*store.DB{
		"direct":           openPoliced(t, direct),
		"through a pooler": openPoliced(t, testkit.NewPgBouncer(t, direct, "transaction").URL()),
	} {
		watch(t, d)
		ctx := testkit.Context(t)
		for call, run := range calls(d) {
			for way, ask := range ways {
				for _, s := range []*store.Session{stranger, absent} {
					err := run(as(ctx, s), func(ctx context.Context, tx pgx.Tx) error {
						_, err := ask(ctx, tx)
						return err
					})
					require.ErrorIs(t, err, store.ErrDenied, "%s, %s, %s", name, call, way)
					require.ErrorContains(t, err, s.Role)
					requireBlank(t, d)
				}
			}
		}
	}
}

// What the caller's role may not is the caller's concern; what the pool's own may
// not is the operator's.
func TestSession_rightsOfTheRole(t *testing.T) {
	t.Parallel()
	raw := policed(t)
	admin, err := url.Parse(raw)
	require.NoError(t, err)
	admin.User = url.User("postgres")
	testkit.Exec(t, admin.String(), "create table secrets (body text); grant select on secrets to red")
	d := open(t, store.Config{URL: raw, MaxConns: 2, Sources: []string{"public.secrets"}, Session: func(ctx context.Context) (*store.Session, error) {
		s, _ := ctx.Value(sessionKey{}).(*store.Session)
		return s, nil
	}})
	watch(t, d)
	awaitReady(t, d, "")
	ctx := testkit.Context(t)
	secrets := func(ctx context.Context, tx pgx.Tx) error {
		var n int
		return tx.QueryRow(ctx, "select count(*) from secrets where body > $1", "").Scan(&n)
	}
	for name, run := range calls(d) {
		require.NoError(t, run(as(ctx, &store.Session{Claims: "{}", Role: "red"}), secrets), name)
		require.ErrorIs(t, run(as(ctx, blueA), secrets), store.ErrDenied, name)
		err := run(as(ctx, blueA), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into notes (tenant, body) values ($1, 'mine')", "b")
			return err
		})
		if name == "InTx" || name == "InTx, audited" {
			require.ErrorIs(t, err, store.ErrDenied, "a policy's check")
			require.ErrorIs(t, run(as(ctx, tenantA), func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into notes (tenant, body) values ($1, 'mine')", "b")
				return err
			}), store.ErrDenied, "of the pool's own role too")
		}
	}
	require.False(t, d.Refused(), "it is nothing to doubt the pool for")
	require.NoError(t, d.Ready())
	require.NotErrorIs(t, d.Read(as(ctx, tenantA), secrets), store.ErrDenied)
	awaitReady(t, d, "secrets")
}

// Claims are data, whatever is in them and however a role reads literals.
func TestSession_claimsAreData(t *testing.T) {
	t.Parallel()
	raw := policed(t)
	const claims = `{"tenant":"a\\'b","x":"'); select pg_sleep(60); --\u0000\u00e9$1"}`
	for name, url := range map[string]string{
		"direct":              raw,
		"with old literals":   testkit.WithParam(t, raw, "standard_conforming_strings", "off"),
		"simple protocol":     testkit.WithParam(t, raw, "default_query_exec_mode", "simple_protocol"),
		"described each time": testkit.WithParam(t, raw, "default_query_exec_mode", "describe_exec"),
		"executed as it is":   testkit.WithParam(t, raw, "default_query_exec_mode", "exec"),
	} {
		d := openPoliced(t, url)
		for call, run := range calls(d) {
			var got string
			require.NoError(t, run(as(testkit.Context(t), &store.Session{Claims: claims, Role: "blue"}), func(ctx context.Context, tx pgx.Tx) error {
				return tx.QueryRow(ctx, "select current_setting('request.jwt.claims')").Scan(&got)
			}), "%s, %s", name, call)
			require.Empty(t, strings.Replace(got, claims, "", 1), "%s, %s: to the byte", name, call)
			requireBlank(t, d)
			got = ""
			require.NoError(t, run(as(testkit.Context(t), &store.Session{Claims: claims, Role: "blue"}), func(ctx context.Context, tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "select 1; select 2"); err != nil { // by the simple protocol
					return err
				}
				return tx.QueryRow(ctx, "select current_setting('request.jwt.claims')").Scan(&got)
			}), "%s, %s, several statements", name, call)
			require.Empty(t, strings.Replace(got, claims, "", 1), "%s, %s: to the byte", name, call)
			requireBlank(t, d)
		}
	}
}

// A migration makes a prepared statement useless: the read is run again, as the same
// caller.
func TestSession_stalePlan(t *testing.T) {
	t.Parallel()
	raw := policed(t)
	admin, err := url.Parse(raw)
	require.NoError(t, err)
	admin.User = url.User("postgres")
	d := openPoliced(t, raw)
	for name, run := range calls(d) {
		count := func() (n int) {
			require.NoError(t, run(as(testkit.Context(t), tenantA), func(ctx context.Context, tx pgx.Tx) error {
				rows, err := tx.Query(ctx, "select * from notes where id > $1", 0)
				if err != nil {
					return err
				}
				n = 0
				for rows.Next() {
					n++
				}
				return rows.Err()
			}), name)
			return n
		}
		require.Equal(t, 2, count())
		testkit.Exec(t, admin.String(), "alter table notes add column "+pgx.Identifier{name}.Sanitize()+" int")
		require.Equal(t, 2, count())
	}
}

// Who runs as somebody takes no round trip more.
func TestSession_roundTrips(t *testing.T) {
	t.Parallel()
	url, relay := newRelay(t, policed(t))
	d := openPoliced(t, url)
	for name, run := range calls(d) {
		for way, ask := range ways {
			trips := func(s *store.Session) int {
				ctx := as(testkit.Context(t), s)
				call := func() error {
					return run(ctx, func(ctx context.Context, tx pgx.Tx) error {
						_, err := ask(ctx, tx)
						return err
					})
				}
				require.NoError(t, call()) // which prepares
				return relay.trips(t, call)
			}
			more := 0
			if name == "Read" && (way == "with an option" || way == "rows with an option" || way == "several in one Exec, then more") {
				more = 2 // what can't travel along opens a transaction, and leaves it
			}
			require.Equal(t, trips(nil)+more, trips(blueA), "%s, %s", name, way)
		}
	}
}
