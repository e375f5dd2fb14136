package store

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/oneline"
	"github.com/freshet-dev/freshet/internal/primary"
)

const (
	// replicaTimeout bounds one look at a replica, and the opening of a connection to
	// it: with lookInterval and cancelTimeout, how long a read may be stuck on one that
	// has gone silent.
	replicaTimeout = 2 * time.Second
	// replicaPause is how long nobody waits for a replica that was waited for in vain, in
	// multiples of that wait: so that one that lags costs reads a tenth of it in the mean.
	replicaPause = 10
)

// replicas are the standbys that may serve reads. Nil: there are none.
type replicas struct {
	all    []*replica
	wait   time.Duration // for a connection and for replay, together
	pause  time.Duration // between two looks; a field so that tests needn't be quick
	logger *slog.Logger

	known     atomic.Pointer[lineage] // of the primary's latest epoch; nil: not known yet
	turn      atomic.Uint32           // whose it is
	fallbacks map[ReplicaReason]*atomic.Uint64
}

// openReplicas prepares pools. It fails on a URL that can't be parsed only.
func openReplicas(ctx context.Context, c Config, logger *slog.Logger, wait time.Duration) (*replicas, error) {
	if len(c.Replicas) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	s := &replicas{wait: wait, pause: lookInterval, logger: logger, fallbacks: map[ReplicaReason]*atomic.Uint64{}}
	for _, why := range ReplicaReasons {
		s.fallbacks[why] = new(atomic.Uint64)
	}
	for _, url := range c.Replicas {
		r, err := openReplica(ctx, url, c.ReplicaConns)
		if err != nil {
			s.close()
			return nil, err
		}
		s.all = append(s.all, r)
	}
	return s, nil
}

func (s *replicas) close() {
	if s == nil {
		return
	}
	for _, r := range s.all {
		r.pool.Close()
	}
}

// tagSQL asks the primary for what is to be learned, and for no more.
func (s *replicas) tagSQL() string {
	if s == nil {
		return tagSQL
	}
	return lineageSQL
}

// learn takes what the primary tells of its epoch.
func (s *replicas) learn(t answeredTag) {
	if s == nil {
		return
	}
	for {
		known := s.known.Load()
		if known != nil && known.epoch >= t.epoch {
			return
		}
		l := t.lineage()
		if s.known.CompareAndSwap(known, &l) {
			break
		}
	}
	for _, r := range s.all {
		r.suspect()
	}
}

// read runs a read on a replica. When it is not served, the primary has to be asked.
func (s *replicas) read(ctx context.Context, call *Call, session *Session, fn func(context.Context, pgx.Tx) error) (served bool, err error) {
	if s == nil {
		return false, nil
	}
	need := call.needs()
	if need.IsZero() {
		return false, nil
	}
	why := ReplicaUnproven
	if l := s.known.Load(); l != nil && l.epoch == need.Epoch {
		var r *replica
		var life context.Context
		if r, life, why = s.choose(need); r != nil {
			why, err = r.serve(ctx, life, &replicaRead{call: call, session: session, of: *l, need: need, wait: s.wait, fn: fn})
			if why == "" {
				return true, err
			}
			if ctx.Err() != nil { // the caller's time is over, on the primary as well
				return true, cmp.Or(err, ctx.Err())
			}
			if why == ReplicaBehind {
				r.putOff(replicaPause * s.wait)
			}
			s.logger.LogAttrs(ctx, slog.LevelDebug, "a read goes to the primary", slog.String("replica", r.name), slog.Any("error", err))
		}
	}
	s.fallbacks[why].Add(1)
	call.onPrimary()
	return false, nil
}

// choose takes turns among the replicas that are known to have replayed what is
// needed; where there is none, among those that it may be worth to wait for. Nil:
// there is none, and why.
func (s *replicas) choose(need freshet.Revision) (_ *replica, life context.Context, why ReplicaReason) {
	first, now := int(s.turn.Add(1)), time.Now()
	var perhaps *replica
	living := 0
	for i := range s.all {
		r := s.all[(first+i)%len(s.all)]
		alive, position, pause, err := r.state()
		switch {
		case alive == nil:
			why = reasonOf(err)
		case need.Compare(position) <= 0:
			return r, alive, ""
		default:
			living++
			if perhaps == nil && !now.Before(pause) {
				perhaps, life = r, alive
			}
		}
	}
	if living > 0 {
		why = ReplicaBehind
	}
	return perhaps, life, why
}

// run looks after the replicas until ctx ends.
func (s *replicas) run(ctx context.Context) {
	if s == nil {
		return
	}
	var all sync.WaitGroup
	for _, r := range s.all {
		all.Go(func() { s.follow(ctx, r) })
	}
	all.Wait()
}

// follow looks at a replica once a second, and when a read found fault, on a
// connection of its own: calls may have all others.
func (s *replicas) follow(ctx context.Context, r *replica) {
	var conn *pgx.Conn
	defer func() { leave(ctx, conn) }()
	defer r.found(standby{}, &ReplicaError{Why: ReplicaUnproven, text: "nobody looks after it any more"})
	for {
		var found standby
		var err error
		if conn, found, err = s.look(ctx, r, conn); ctx.Err() != nil {
			return
		}
		if r.found(found, err) {
			s.tell(ctx, r, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.pause):
		case <-r.wake:
			if !sleep(ctx, suspectInterval) {
				return
			}
		}
	}
}

// look asks a replica what it is, on conn, or on a connection that it opens if that is
// nil. It returns the one to look on again; nil: none.
func (s *replicas) look(ctx context.Context, r *replica, conn *pgx.Conn) (_ *pgx.Conn, found standby, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	if conn == nil {
		config, err := r.config()
		if err == nil {
			conn, err = pgx.ConnectConfig(ctx, config.ConnConfig)
		}
		if err != nil {
			return nil, found, &ReplicaError{Why: ReplicaDown, text: "it can't be reached", err: oneline.Error(err)}
		}
	}
	if found, err = askStandby(ctx, conn); err != nil {
		leave(ctx, conn)
		return nil, found, err
	}
	l := s.known.Load()
	if l == nil {
		return conn, found, &ReplicaError{Why: ReplicaUnproven, text: "the primary's history is not known yet"}
	}
	if err = found.shows(*l); reasonOf(err) == ReplicaPromoted && isThePrimary(ctx, conn, *l) {
		err = &ReplicaError{Why: ReplicaPrimary, text: "it is the primary itself"}
	}
	return conn, found, err
}

// isThePrimary reports whether what is no standby has the history by its own right: the
// row that says what an epoch names is in no copy, and in no server that was promoted.
// Somebody may have given one URL twice, and is not to be told to rebuild that server.
func isThePrimary(ctx context.Context, conn *pgx.Conn, l lineage) bool {
	results, err := conn.PgConn().Exec(ctx, lineageSQL).ReadAll()
	t, err := parseTag(results, err)
	return err == nil && t.lineage() == l
}

// leave closes a connection, if there is one.
func leave(ctx context.Context, conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it has served
}

func (s *replicas) tell(ctx context.Context, r *replica, err error) {
	if err == nil {
		s.logger.LogAttrs(ctx, slog.LevelInfo, "a replica serves reads", slog.String("replica", r.name))
		return
	}
	level := slog.LevelWarn
	if reasonOf(err) == ReplicaUnproven {
		level = slog.LevelInfo
	}
	s.logger.LogAttrs(ctx, level, "a replica serves no reads: the primary does", slog.String("replica", r.name), slog.Any("error", err))
}

// ReplicaStats is what is known of a replica.
type ReplicaStats struct {
	Name       string           // host:port
	Err        error            // why it serves no reads, mostly a *ReplicaError; nil: it does
	Position   freshet.Revision // replayed, as last seen; zero: not known
	Lag        time.Duration    // how old is what it replayed last, if it has received more
	Reads      uint64           // that it has served
	InUse, Max int              // connections
}

// Replicas returns what is known of each replica, in Config's order, as of the last
// look that Watch took.
func (d *DB) Replicas() []ReplicaStats {
	if d.replicas == nil {
		return nil
	}
	stats := make([]ReplicaStats, 0, len(d.replicas.all))
	for _, r := range d.replicas.all {
		pool := r.pool.Stat()
		r.mu.Lock()
		stats = append(stats, ReplicaStats{
			Name: r.name, Err: r.err, Position: r.position, Lag: r.lag, Reads: r.reads.Load(),
			InUse: int(pool.AcquiredConns()), Max: int(pool.MaxConns()),
		})
		r.mu.Unlock()
	}
	return stats
}

// Fallbacks returns how many reads that a replica might have served ran on the primary,
// by reason.
func (d *DB) Fallbacks(why ReplicaReason) uint64 {
	if d.replicas == nil || d.replicas.fallbacks[why] == nil {
		return 0
	}
	return d.replicas.fallbacks[why].Load()
}

// CheckReplica says whether reads may run on the standby that one URL leads to, beside
// the primary that the other one leads to: nil, or a *ReplicaError. ErrNoEpoch: no node
// has run on the primary since its start, so that there is no history to compare with.
func CheckReplica(ctx context.Context, primaryURL, url string) error {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	config, err := pgx.ParseConfig(primaryURL)
	if err != nil {
		return err
	}
	if config, err = primary.NewFinder(nil).Narrow(bounded, config); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(bounded, config)
	if err != nil {
		return oneline.Error(err)
	}
	defer leave(ctx, conn)
	results, err := conn.PgConn().Exec(bounded, lineageSQL).ReadAll()
	t, err := parseTag(results, err)
	if err != nil {
		return err
	}
	s := new(replicas)
	s.learn(t)
	there, _, err := s.look(ctx, &replica{url: url}, nil)
	leave(ctx, there)
	return err
}
