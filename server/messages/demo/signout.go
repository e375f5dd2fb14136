package demo

import (
	"sync"
	"time"
)

const (
	// maxSignedOut bounds the sessions that are remembered.
	maxSignedOut = 10_000
	// longer is how long a session is remembered after the last of its tokens expired:
	// servers allow for an issuer's clock that is off (auth.Config.ClockSkew), and a
	// renewal may have been under way.
	longer = time.Minute
)

// signedOut are the sessions that somebody has signed out of. Each is remembered for
// as long as a token of it may count; a restart forgets them.
type signedOut struct {
	mu    sync.RWMutex         // guards what follows
	until map[string]time.Time // by the `sid` of its tokens
}

// add reports whether there is room for one more.
func (s *signedOut) add(session string, now, until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) >= maxSignedOut {
		for one, until := range s.until {
			if !now.Before(until) {
				delete(s.until, one)
			}
		}
		if len(s.until) >= maxSignedOut {
			return false
		}
	}
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	s.until[session] = until
	return true
}

func (s *signedOut) has(session string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.until[session]
	return ok
}

// SignedOut reports whether somebody has signed out of the session that a token with
// these claims is of: then it is no good any more, whatever its signature and its
// times say. Tokens of other sessions of the same account are.
func (i *Issuer) SignedOut(claims map[string]any) bool {
	session, _ := claims["sid"].(string)
	return i.signedOut.has(session)
}
