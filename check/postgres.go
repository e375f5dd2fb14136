package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/oneline"
)

// Postgres is the Database behind a server: the same one that it serves.
type Postgres struct {
	url  string
	of   *statements
	name string // of the checker's own table
	slot string
	note string

	mu   sync.Mutex // guards all below
	conn *pgx.Conn  // holds the temporary slot; nil: there is none
}

// OpenPostgres prepares a database, whose table the workload names: a table of the
// checker's own, and a temporary replication slot that follows it. If there can be no slot (no right,
// none free, an open transaction that holds it up), positions are known as
// intervals only, and Note says so. run distinguishes runs at the same time; it
// must consist of lower-case letters and digits.
func OpenPostgres(ctx context.Context, url, run string, of Table) (*Postgres, error) {
	statements, err := of.statements()
	if err != nil {
		return nil, err
	}
	p := &Postgres{url: url, of: statements, name: "commits_" + run, slot: "freshet_check_" + run}
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"select from " + p.of.table + " limit 0", // is it the server's at all?
		"create schema if not exists freshet_check",
		"create table " + p.table() + " (id bigserial primary key, xid xid8 not null, position pg_lsn not null)",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			closeConn(conn)
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
	}
	_, err = conn.Exec(ctx, "create publication "+p.slot+" for table "+p.table())
	if err == nil {
		err = p.follow(ctx, conn)
	}
	if err != nil {
		p.note = fmt.Sprintf("commit positions are known as intervals only (%v): G1, G2, G6 see less", err)
		closeConn(conn)
		return p, nil
	}
	p.conn = conn
	return p, nil
}

func (p *Postgres) table() string { return "freshet_check." + p.name }

func (p *Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("database: %w", oneline.Error(err))
	}
	// What this session commits must outlive a crash; any other setting does.
	_, err = conn.Exec(ctx, "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'")
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("database: %w", err)
	}
	return conn, nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing hangs on it any more
}

// follow makes the slot.
func (p *Postgres) follow(ctx context.Context, conn *pgx.Conn) error {
	// Creation waits for open transactions.
	_, err := conn.Exec(ctx, "set statement_timeout = '5s'")
	if err == nil {
		_, err = conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput', true)", p.slot)
	}
	if err == nil {
		_, err = conn.Exec(ctx, "set statement_timeout = 0")
	}
	return err
}

// Close removes the checker's table, the slot, and every row of the places, which
// Config.PlaceNames names. Nobody may be using a session any more.
func (p *Postgres) Close(ctx context.Context, places []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		closeConn(p.conn) // and with it goes the slot
		p.conn = nil
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, gone := conn.Exec(ctx, p.of.clear, places)
	_, dropped := conn.Exec(ctx, "drop publication if exists "+p.slot)
	_, table := conn.Exec(ctx, "drop table if exists "+p.table())
	_, _ = conn.Exec(ctx, "drop schema if exists freshet_check restrict") // others' tables keep it
	return errors.Join(gone, dropped, table)
}

// Note implements Database.
func (p *Postgres) Note() string { return p.note }

// Positions implements Database. A commit message is the letter C; the position
// beside it is the commit's end, as everywhere.
func (p *Postgres) Positions(ctx context.Context) (map[uint64]uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil, nil
	}
	if p.conn.IsClosed() {
		// Cut, and the slot with it: from here on there are positions again.
		conn, err := p.connect(ctx)
		if err != nil {
			return nil, err
		}
		if err := p.follow(ctx, conn); err != nil {
			closeConn(conn)
			return nil, err
		}
		p.conn = conn
	}
	rows, err := p.conn.Query(ctx, `select (lsn - '0/0'::pg_lsn)::bigint, xid::text::bigint
		from pg_logical_slot_get_binary_changes($1, upto_lsn => null, upto_nchanges => null,
			variadic options => array['proto_version', '1', 'publication_names', $2])
		where get_byte(data, 0) = 67`, p.slot, p.slot)
	if err != nil {
		return nil, err
	}
	positions := map[uint64]uint64{}
	var at, xid int64
	_, err = pgx.ForEachRow(rows, []any{&at, &xid}, func() error {
		positions[uint64(xid)] = uint64(at)
		return nil
	})
	return positions, err
}

// Outcomes implements Database. A crash may give an xid again that was not
// durable, so a row counts only together with its position. And what another server
// calls aborted, one that has taken over, may have been committed in the history before:
// which may yet be the one that goes on.
func (p *Postgres) Outcomes(ctx context.Context, writes []Write) ([]Outcome, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	outcomes := make([]Outcome, len(writes))
	for i, w := range writes {
		var here bool
		var status *string
		var now freshet.Epoch
		err := conn.QueryRow(ctx, "select exists (select from "+p.table()+` where xid = $1::text::xid8 and position = '0/0'::pg_lsn + $2::bigint),
			pg_xact_status($1::text::xid8), (`+epoch+")", strconv.FormatUint(w.Xid, 10), int64(w.After.Position)).Scan(&here, &status, &now)
		switch {
		case err != nil: // an xid from before a crash may not have been given yet
			continue
		case here:
			outcomes[i] = Committed
		case status != nil && *status == "aborted" && now != 0 && now == w.After.Epoch:
			outcomes[i] = RolledBack
		}
	}
	return outcomes, ctx.Err()
}

// Session implements Database.
func (p *Postgres) Session(ctx context.Context) (Session, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &pgSession{p: p, conn: conn}, nil
}

// pgSession connects again after it was cut.
type pgSession struct {
	p    *Postgres
	conn *pgx.Conn
}

func (s *pgSession) Close() { closeConn(s.conn) }

func (s *pgSession) alive(ctx context.Context) error {
	if !s.conn.IsClosed() {
		return nil
	}
	conn, err := s.p.connect(ctx)
	if err == nil {
		s.conn = conn
	}
	return err
}

// Write implements Session.
func (s *pgSession) Write(ctx context.Context, w *Write, how Manner, now func() time.Duration) (err error) {
	w.Outcome = RolledBack // until COMMIT is sent
	w.Sent, w.Done = now(), now()
	if err := s.alive(ctx); err != nil {
		return err
	}
	if how.Unpublished {
		publish, failed := s.unpublish(ctx)
		defer func() { err = errors.Join(err, publish()) }()
		if failed != nil {
			return failed
		}
	}
	return s.write(ctx, w, how, now)
}

func (s *pgSession) write(ctx context.Context, w *Write, how Manner, now func() time.Duration) error {
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // a no-op after COMMIT
	if err := s.change(ctx, tx, w, how); err != nil {
		return err
	}
	if how.After > 0 {
		pass(ctx, how.After)
	}
	w.Sent = now()
	if how.Rollback {
		err := tx.Rollback(ctx)
		w.Done = now()
		return err
	}
	w.Outcome = Unknown
	err = tx.Commit(ctx)
	w.Done = now()
	if err != nil {
		if _, said := errors.AsType[*pgconn.PgError](err); said && !s.conn.IsClosed() {
			w.Outcome = RolledBack
		}
		return err
	}
	w.Outcome = Committed
	upto, err := position(ctx, s.conn)
	if err != nil {
		return err
	}
	w.Upto = upto
	if w.After.Position > 0 {
		w.After.Epoch = upto.Epoch // the same connection, so the same run of the database
	}
	return nil
}

// position is one that the WAL has reached.
func position(ctx context.Context, conn *pgx.Conn) (freshet.Revision, error) {
	var rev freshet.Revision
	err := conn.QueryRow(ctx, epoch+", (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&rev.Epoch, &rev.Position)
	if err != nil || rev.Epoch == 0 {
		return freshet.Revision{}, err
	}
	return rev, nil
}

// change runs a transaction's statements, but for COPY in one round trip.
func (s *pgSession) change(ctx context.Context, tx pgx.Tx, w *Write, how Manner) error {
	batch := &pgx.Batch{}
	var queued, copied []Change
	of := s.p.of
	var made [][]any
	if how.Truncate {
		batch.Queue(of.truncate)
	}
	for i, c := range w.Changes {
		switch {
		case how.Truncate:
			continue
		case c.From == "" && how.Copy:
			made = append(made, of.row(how.IDs[i], c))
			copied = append(copied, c)
			continue
		case c.From == "":
			batch.Queue(of.insert, of.row(how.IDs[i], c)...)
		case c.To == "":
			batch.Queue(of.remove, c.From, of.mark(Cell{c.Row, how.Was[i]}))
		default:
			batch.Queue(of.update, c.From, of.mark(Cell{c.Row, how.Was[i]}), c.To, of.mark(c.Cell))
		}
		queued = append(queued, c)
	}
	for _, topic := range how.Emit {
		batch.Queue("select pg_logical_emit_message(true, 'freshet', $1)", topic)
	}
	if len(made) > 0 {
		n, err := tx.CopyFrom(ctx, of.name, of.columns, pgx.CopyFromRows(made))
		if err == nil && n != int64(len(made)) {
			err = fmt.Errorf("%v: %d rows were copied instead of %d", copied, n, len(made))
		}
		if err != nil {
			return err
		}
	}
	batch.Queue("insert into " + s.p.table() + ` (xid, position) values (pg_current_xact_id(), pg_current_wal_insert_lsn())
		returning xid::text::bigint, (position - '0/0'::pg_lsn)::bigint, (` + epoch + ")")
	results := tx.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }() // its error has been seen
	if how.Truncate {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	for _, c := range queued {
		tag, err := results.Exec()
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return fmt.Errorf("%v: %d rows instead of one: does somebody else write to these places?", c, tag.RowsAffected())
		}
	}
	for range how.Emit {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	return results.QueryRow().Scan(&w.Xid, &w.After.Position, &w.After.Epoch)
}

// Read implements Session. A connection that has been cut since it was used last
// shows it only now, so it gets a second chance.
func (s *pgSession) Read(ctx context.Context, places []string) (Held, error) {
	held, err := s.read(ctx, places)
	if err != nil && s.conn.IsClosed() && ctx.Err() == nil {
		held, err = s.read(ctx, places)
	}
	return held, err
}

func (s *pgSession) read(ctx context.Context, places []string) (Held, error) {
	if err := s.alive(ctx); err != nil {
		return Held{}, err
	}
	// Its epoch first: what is read then is as new as that.
	batch := &pgx.Batch{}
	batch.Queue(epoch)
	batch.Queue(s.p.of.read, places)
	results := s.conn.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }() // its error has been seen
	held := Held{Places: map[string][]Cell{}}
	if err := results.QueryRow().Scan(&held.Epoch); err != nil {
		return Held{}, err
	}
	rows, err := results.Query()
	if err != nil {
		return Held{}, err
	}
	var place, mark string
	_, err = pgx.ForEachRow(rows, []any{&place, &mark}, func() error {
		if cell, ok := s.p.of.cell(mark); ok {
			held.Places[place] = append(held.Places[place], cell)
		}
		return nil
	})
	for _, cells := range held.Places {
		slices.SortFunc(cells, compareCells)
	}
	return held, err
}

// epoch is the one that a server has begun in the database since Postgres was started,
// or zero. A clean shutdown keeps the row of the one before, which has ended with it.
// Nor does one count that has come here with a dump of another database.
const epoch = `select coalesce((select epoch from freshet.incarnation where postmaster_start = pg_postmaster_start_time()
	and database in (0, (select oid from pg_database where datname = current_database()))), 0)`
