package wal

import (
	"context"
	"fmt"
	"time"
)

// A connection stays with its server when the name that led there leads elsewhere: a
// standby was promoted, and nobody has stopped the old primary or cut the connections
// to it. What follows a server that was left behind would go on with a history that
// nobody writes to any more, beside nodes (and connections of this one's pool) that
// came later and follow the other. So it is asked now and then where a new connection
// leads.
const (
	// homeInterval is how often at most; and while the probe has had no answer for as
	// long: another server may have taken the place of one that hangs.
	homeInterval = time.Second
	// homeTimeout bounds each look: it may lead to the very server that hangs.
	homeTimeout = 5 * time.Second
	// steadily is how often in a row a new connection has to lead to another server
	// before that counts, where nothing says which of the two is the older: a balancer
	// may send each one somewhere else.
	steadily = 3
)

// stay ends the session once its database isn't any more where new connections lead.
// That nobody answers there, or a standby does, says nothing.
func (s *session) stay(ctx context.Context) error {
	regular := time.NewTicker(max(s.f.cfg.WatchInterval, homeInterval))
	defer regular.Stop()
	soon := time.NewTicker(homeInterval)
	defer soon.Stop()
	elsewhere := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-regular.C:
		case <-soon.C:
			if s.answered.Ago() < homeInterval {
				continue
			}
		}
		there, known := s.whereTo(ctx)
		switch {
		case !known:
		case there.is(s.home):
			elsewhere = 0
		case there.systemIdentifier == s.home.systemIdentifier && there.timeline > s.home.timeline:
			return fmt.Errorf("new connections lead to a primary of timeline %d: the one that this session follows, of timeline %d, was left behind by a failover and is still up; stop it, or make a standby of it",
				there.timeline, s.home.timeline)
		case elsewhere+1 == steadily:
			return fmt.Errorf("new connections lead to another server or database (started at %s, system %s, timeline %d) than this session follows (%s, %s, %d)",
				there.postmasterStart, there.systemIdentifier, there.timeline, s.home.postmasterStart, s.home.systemIdentifier, s.home.timeline)
		default:
			elsewhere++
		}
	}
}

// whereTo says to which primary a new connection leads.
func (s *session) whereTo(ctx context.Context) (there incarnation, known bool) {
	ctx, cancel := context.WithTimeout(ctx, homeTimeout)
	defer cancel()
	dial := newDialer()
	defer dial.close()
	conn, err := s.openThrough(ctx, dial, nil)
	if err != nil {
		return there, false
	}
	defer farewell(conn, dial)
	there, err = identifyBySQL(ctx, conn)
	if s.repl == nil && there.is(s.home) { // of those that follow, nobody else looks
		if spelling, err := readSpelling(ctx, conn, s.f.cfg.Program); err == nil {
			s.f.spelling.Store(spelling)
		}
	}
	return there, err == nil
}
