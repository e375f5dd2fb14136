package client

import "sync"

// sentTokens is which token has been sent last, with streams and with calls. Whose
// claims it has, only the server knows, so another token may be another caller's. The
// zero value is ready; it is safe for concurrent use.
type sentTokens struct {
	mu      sync.Mutex // guards what follows
	token   string
	changes int           // how often there was another; from the first one on
	changed chan struct{} // nil: nobody waits
}

// note says that a token is about to be sent.
func (s *sentTokens) note(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes > 0 && token == s.token {
		return
	}
	s.token = token
	if s.changes++; s.changes > 1 && s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// count grows with each token that is another than the one before.
func (s *sentTokens) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// another is closed when another token is sent than was last.
func (s *sentTokens) another() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}
