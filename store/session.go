package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrDenied says that the database doesn't let the caller do this: a policy refuses
// the row that it would write, or its role lacks a right, or can't be taken. It is
// given only to calls that run as somebody, by a Session; but for the policy, a
// lack of rights of the pool's own role is an error of the set-up.
var ErrDenied = errors.New("denied by the database")

// Session is who a call's statements run as: what row security goes by. Each
// transaction sets it for itself (set_config with is_local), as PostgREST and
// Supabase do, and nothing of it is left on the connection when that ends.
type Session struct {
	// Claims is what the setting request.jwt.claims is to be: a JSON object, of
	// ASCII characters, so that a database of any encoding takes it.
	Claims string
	// Role is the role to run as. Empty: the pool's own. A name that the pool's role
	// may not take is ErrDenied. It isn't to be `none`, which is Postgres's word for
	// the pool's own.
	Role string
}

const (
	setClaimsSQL = "select set_config('request.jwt.claims', $1, true)"
	setRoleSQL   = setClaimsSQL + ", set_config('role', $2, true)"
)

// sessionOf asks Config.Session.
func (d *DB) sessionOf(ctx context.Context) (*Session, error) {
	if d.session == nil {
		return nil, nil //nolint:nilnil // nobody
	}
	return d.session(ctx)
}

// Statement is what sets s in a transaction, for whoever has one that isn't the
// store's: to be run first, or with others in one implicit transaction. Its result is
// a row. A nil Session has none: the statement is empty, and isn't to be run.
func (s *Session) Statement() (sql string, args []any) {
	switch {
	case s == nil:
		return "", nil
	case s.Role == "":
		return setClaimsSQL, []any{s.Claims}
	default:
		return setRoleSQL, []any{s.Claims, s.Role}
	}
}

// queue adds what sets s to a batch, before the statements that are to run as it.
func (s *Session) queue(b *pgx.Batch) {
	if sql, args := s.Statement(); sql != "" {
		b.Queue(sql, args...)
	}
}

// set reads the result of what queue has added.
func (s *Session) set(results pgx.BatchResults) error {
	if s == nil {
		return nil
	}
	_, err := results.Exec()
	return s.refused(err)
}

// sql is the same as a text for the simple protocol, to follow a BEGIN, where nothing
// may be prepared or several statements come in one text. That knows no arguments, and whether a backslash is one in a literal is a setting that a role
// may have; so values are put as hex digits.
func (s *Session) sql() string {
	if s == nil {
		return ""
	}
	literal := func(value string) string {
		return "convert_from(decode('" + hex.EncodeToString([]byte(value)) + "', 'hex'), 'UTF8')"
	}
	text := "; select set_config('request.jwt.claims', " + literal(s.Claims) + ", true)"
	if s.Role != "" {
		text += ", set_config('role', " + literal(s.Role) + ", true)"
	}
	return text
}

// begin opens a transaction and sets s in it, in one round trip. What sets s is
// prepared: to parse it each time would cost the server 25 µs.
func (s *Session) begin(ctx context.Context, conn *pgxpool.Conn, begin string) error {
	if s == nil {
		_, err := exec(ctx, conn, begin)
		return err
	}
	batch := new(pgx.Batch)
	batch.Queue(begin)
	s.queue(batch)
	results := conn.SendBatch(ctx, batch)
	_, err := results.Exec()
	if err == nil {
		err = s.set(results)
	}
	return mapError(ctx, cmp.Or(err, results.Close()))
}

// refused gives an error of what sets s its meaning: the role doesn't exist, or the
// pool's isn't a member of it. It may also be that of a statement that was to be
// prepared along with it.
func (s *Session) refused(err error) error {
	var pg *pgconn.PgError
	if s == nil || s.Role == "" || !errors.As(err, &pg) || pg.Routine != "call_string_check_hook" ||
		pg.Code != codePrivilege && pg.Code != codeInvalidParameter {
		return err
	}
	return fmt.Errorf("%w: the caller's role %q can't be taken: %w", ErrDenied, s.Role, err)
}

// judge is for an error of a function that has run as s. Its role lacks rights; the
// pool's own may have them all.
func (s *Session) judge(err error) error {
	if s == nil || s.Role == "" || !isDenied(err) || errors.Is(err, ErrDenied) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDenied, err)
}
