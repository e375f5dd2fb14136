// Package primary finds the primary among the hosts of a connection string.
//
// By itself pgx, as libpq, tries one host after the other, and takes the first that
// accepts writes. That isn't enough where servers fail over. A host that is gone
// without a word costs each new connection all the time that there is; and an old
// primary that is still up, or was started again by somebody who knows of no other,
// is taken before the one that was promoted: connections of one program would lead to
// two histories.
//
// So all hosts are asked at once. Of several primaries of one system the one with the
// highest timeline is meant: each promotion begins another.
package primary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/internal/oneline"
)

const (
	// answerCounts is for how long a primary that was found is taken without asking
	// again: a session opens several connections.
	answerCounts = time.Second
	// patience is how long hosts have to answer, and standbys to be promoted.
	patience = 3 * time.Second
	// grace is how long those that have not answered have, once one is a primary that was
	// promoted since the last time; and those that were silent then, too, once the others
	// have answered and one of them is a primary.
	grace = 500 * time.Millisecond
	// again is how often a standby is asked whether it has been promoted.
	again = 200 * time.Millisecond
	// farewell bounds the closing of a connection.
	farewell = 100 * time.Millisecond
)

// Address says how to connect; it is asked before each connection.
type Address = func(ctx context.Context) (*pgx.ConnConfig, error)

// Of is Finder.Of of a new one.
func Of(at Address, logger *slog.Logger) Address { return NewFinder(logger).Of(at) }

// Finder finds the primary of one connection string. Make it with NewFinder. It is safe
// for concurrent use: who asks at the same time shares an answer.
type Finder struct {
	logger *slog.Logger
	stale  atomic.Bool   // what was found doesn't count any more
	turn   chan struct{} // capacity 1: held by whoever asks; it guards what follows
	found  host
	newest uint64 // timeline of the last one that was found; 0: none yet
	at     time.Time
	silent map[host]bool // did not answer the last time
	told   string        // the last warning
}

// NewFinder returns a finder that tells logger of primaries that were left behind. A nil
// logger is none.
func NewFinder(logger *slog.Logger) *Finder {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Finder{logger: logger, turn: make(chan struct{}, 1)}
}

// UnknownError says that it isn't known where the primary is: no host is one, or a
// caller's own address doesn't say.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string { return e.Err.Error() }

func (e *UnknownError) Unwrap() error { return e.Err }

// Of returns an address at which there is the primary alone, of the hosts of at: see
// Narrow. An error of at is an *UnknownError. It may be asked by many at once.
func (f *Finder) Of(at Address) Address {
	return func(ctx context.Context) (*pgx.ConnConfig, error) {
		config, err := at(ctx)
		if err != nil {
			return nil, &UnknownError{Err: err}
		}
		return f.Narrow(ctx, config)
	}
}

// Narrow returns config with one of its hosts, the primary, whatever
// target_session_attrs says; where there is only one, config itself. The error is ctx's,
// or an *UnknownError, which says what each host is.
func (f *Finder) Narrow(ctx context.Context, config *pgx.ConnConfig) (*pgx.ConnConfig, error) {
	hosts := hostsOf(config)
	if len(hosts) < 2 {
		return config, nil
	}
	found, err := f.find(ctx, config, hosts)
	if err != nil {
		return nil, err
	}
	return narrowed(config, found), nil
}

// Forget has the hosts asked anew the next time: the primary is known to be another one.
// It doesn't block.
func (f *Finder) Forget() { f.stale.Store(true) }

// Each returns config for each of its hosts, in their order.
func Each(config *pgx.ConnConfig) []*pgx.ConnConfig {
	var all []*pgx.ConnConfig
	for _, h := range hostsOf(config) {
		all = append(all, narrowed(config, h))
	}
	return all
}

// host is one server of a connection string.
type host struct {
	name string
	port uint16
}

func (h host) String() string { return net.JoinHostPort(h.name, strconv.Itoa(int(h.port))) }

// hostsOf are those of a connection string in its order. A host can be there twice, with
// TLS and without.
func hostsOf(config *pgx.ConnConfig) []host {
	hosts := []host{{config.Host, config.Port}}
	seen := map[host]bool{hosts[0]: true}
	for _, f := range config.Fallbacks {
		if h := (host{f.Host, f.Port}); !seen[h] {
			seen[h] = true
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// narrowed is config with one of its hosts.
func narrowed(config *pgx.ConnConfig, to host) *pgx.ConnConfig {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	config = config.Copy()
	config.Fallbacks, config.ValidateConnect = nil, nil
	first := true
	for _, f := range all {
		switch {
		case f.Host != to.name || f.Port != to.port:
		case first:
			first = false
			config.Host, config.Port, config.TLSConfig = f.Host, f.Port, f.TLSConfig
		default:
			config.Fallbacks = append(config.Fallbacks, f)
		}
	}
	return config
}

func (f *Finder) find(ctx context.Context, config *pgx.ConnConfig, hosts []host) (host, error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return host{}, ctx.Err()
	}
	defer func() { <-f.turn }()
	if !f.stale.Swap(false) && time.Since(f.at) < answerCounts {
		return f.found, nil
	}
	answers := ask(ctx, config, hosts, f.silent, f.newest)
	if ctx.Err() != nil {
		return host{}, ctx.Err()
	}
	f.silent = map[host]bool{}
	for _, a := range answers {
		f.silent[a.host] = errors.Is(a.err, errSilent)
	}
	best, left := choose(answers)
	f.warn(ctx, best, left)
	if best == nil {
		f.at = time.Time{}
		return host{}, &UnknownError{Err: none(answers)}
	}
	f.found, f.newest, f.at = best.host, best.timeline, time.Now()
	return f.found, nil
}

// warn tells once of primaries that were left behind.
func (f *Finder) warn(ctx context.Context, best *answer, left []answer) {
	names := make([]string, len(left))
	for i, a := range left {
		names[i] = a.host.String()
	}
	text := ""
	if len(names) > 0 {
		text = best.host.String() + " " + strings.Join(names, " ")
	}
	if text != "" && text != f.told {
		f.logger.LogAttrs(ctx, slog.LevelWarn, "several hosts of the database URL are primaries: the one of the highest timeline is used; stop the others, or make standbys of them",
			slog.String("used", best.host.String()), slog.Any("left_behind", names))
	}
	f.told = text
}

// answer is what a host says of itself.
type answer struct {
	host     host
	err      error // it doesn't say anything
	primary  bool
	system   string // "": the role may not know
	started  string // by which two names of one server are told from two servers
	timeline uint64
}

// whatSQL reads the timeline of a primary where WAL is inserted: what pg_control says
// is that of the last checkpoint, behind a promotion. A managed provider may keep the
// last statement from the role.
const whatSQL = `select pg_is_in_recovery(), pg_postmaster_start_time(),
  case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end;
select system_identifier from pg_control_system()`

var errSilent = errors.New("no answer")

// ask asks all hosts at once, until each has answered, but for those that were silent
// before: one that is slow may have taken the place of a primary that has answered. But a
// primary of a higher timeline than newest, the last one's (0: there was none), has itself
// taken that one's place, which may hang for that very reason. While none is a primary it
// waits for one.
func ask(ctx context.Context, config *pgx.ConnConfig, hosts []host, silent map[host]bool, newest uint64) []answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	said := make(chan answer)
	for _, h := range hosts {
		all.Go(func() { h.ask(ctx, narrowed(config, h), said) })
	}
	latest := map[host]answer{}
	var enough <-chan time.Time // not nil once those that are missing have grace alone
	for {
		missing, slow, primary, standby, promoted := 0, 0, false, false, false
		for _, h := range hosts {
			a, ok := latest[h]
			switch {
			case !ok && silent[h]:
				missing++
			case !ok:
				missing, slow = missing+1, slow+1
			case a.err == nil:
				primary, standby = primary || a.primary, standby || !a.primary
				promoted = promoted || newest > 0 && a.timeline > newest
			}
		}
		switch {
		case missing == 0 && (primary || !standby):
			return inOrder(hosts, latest)
		case primary && (slow == 0 || promoted) && enough == nil:
			enough = time.After(grace)
		}
		select {
		case a := <-said:
			latest[a.host] = a
		case <-enough:
			return inOrder(hosts, latest)
		case <-ctx.Done():
			return inOrder(hosts, latest)
		}
	}
}

func inOrder(hosts []host, latest map[host]answer) []answer {
	answers := make([]answer, len(hosts))
	for i, h := range hosts {
		a, ok := latest[h]
		if !ok {
			a = answer{host: h, err: errSilent}
		}
		answers[i] = a
	}
	return answers
}

// ask sends what the host says of itself, again and again as long as that is that it is
// a standby, until ctx ends.
func (h host) ask(ctx context.Context, config *pgx.ConnConfig, said chan<- answer) {
	tell := func(a answer) bool {
		a.host = h
		select {
		case said <- a:
			return true
		case <-ctx.Done():
			return false
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, &config.Config)
	if err != nil {
		if ctx.Err() == nil && !pgconn.Timeout(err) { // else it is silent
			tell(answer{err: err})
		}
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		_ = conn.Close(ctx) // it has served
		<-conn.CleanupDone()
	}()
	for {
		a := what(ctx, conn)
		if !tell(a) || a.err != nil || a.primary {
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

func what(ctx context.Context, conn *pgconn.PgConn) (a answer) {
	results, err := conn.Exec(ctx, whatSQL).ReadAll()
	if len(results) == 0 || results[0].Err != nil || len(results[0].Rows) == 0 {
		return answer{err: cmp.Or(err, errors.New("it doesn't say what it is"))}
	}
	row := results[0].Rows[0]
	a.primary, a.started = string(row[0]) == "f", string(row[1])
	if len(results) > 1 && results[1].Err == nil && len(results[1].Rows) == 1 {
		a.system = string(results[1].Rows[0][0])
	}
	if a.primary {
		a.timeline, a.err = strconv.ParseUint(string(row[2]), 16, 32)
	}
	return a
}

// choose returns the primary that is meant, nil if there is none, and those that it has
// left behind. Other systems than the first primary's are no part of it.
func choose(answers []answer) (best *answer, left []answer) {
	var primaries []answer
	for _, a := range answers {
		if a.err == nil && a.primary && (len(primaries) == 0 || a.system == primaries[0].system) {
			primaries = append(primaries, a)
		}
	}
	for i := range primaries {
		if best == nil || primaries[i].timeline > best.timeline {
			best = &primaries[i]
		}
	}
	for _, a := range primaries {
		if a.host != best.host && a.started != best.started {
			left = append(left, a)
		}
	}
	return best, left
}

// none is the error where no host is a primary.
func none(answers []answer) error {
	var errs []error
	for _, a := range answers {
		if a.err == nil {
			errs = append(errs, fmt.Errorf("%s is a standby", a.host))
			continue
		}
		var connect *pgconn.ConnectError
		if errors.As(a.err, &connect) {
			errs = append(errs, connect.Unwrap()) // which names the host, as all of them do
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %w", a.host, a.err))
	}
	return fmt.Errorf("none of the database URL's hosts is a primary: %w", oneline.Error(errors.Join(errs...)))
}
