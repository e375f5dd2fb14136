package stream

import (
	"errors"
	"time"

	"connectrpc.com/connect"
)

// ending is why a stream ends whose caller may not have it any longer. Neither says
// more than that: which of the topics it is about is for nobody to know.
type ending struct {
	reason string // of the event `end`
	code   connect.Code
	text   string
}

func (e *ending) Error() string { return e.text }

var (
	errRevoked = &ending{"denied", connect.CodePermissionDenied, "the grant was withdrawn"}
	errExpired = &ending{"expired", connect.CodeUnauthenticated, "the credential has expired: come back with another one"}
)

// eternity is when a credential expires of which nobody needs to know when: what is
// further away fits into no count of nanoseconds.
const eternity = 100 * 365 * 24 * time.Hour

// ending returns why nothing more may be told; nil: it may.
func (s *session) ending() *ending {
	switch {
	case s.revoked.Load():
		return errRevoked
	case s.expires != 0 && !time.Now().Before(time.Unix(0, s.expires)): // by the wall clock, as its issuer
		return errExpired
	}
	return nil
}

// left is how long the caller's credential still counts: 0 if it doesn't end, and
// more than 0 as long as it does.
func (s *session) left() time.Duration {
	if s.expires == 0 {
		return 0
	}
	return max(time.Until(time.Unix(0, s.expires)), 1)
}

// patience is how long the session may rest: until the next heartbeat, or until the
// credential expires.
func (s *session) patience() time.Duration {
	if left := s.left(); left > 0 {
		return min(left, s.server.config.Heartbeat)
	}
	return s.server.config.Heartbeat
}

// lastWords tells an ending, if that is what err is, and returns err.
func (s *session) lastWords(err error) error {
	if why, ok := errors.AsType[*ending](err); ok {
		s.server.ends(why)
		return errors.Join(err, s.out.end(why))
	}
	return err
}

// ends counts an ending.
func (s *Server) ends(why *ending) {
	if why == errExpired {
		s.metrics.expired.Inc()
	} else {
		s.metrics.revoked.Inc()
	}
}
