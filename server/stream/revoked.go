package stream

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
)

const (
	// revokedTopics and a subject, escaped as a topic's values are, is the topic that
	// says of the subject that its streams are to be asked about at once.
	revokedTopics = reserved + "revoked/"
	// maxRevoked bounds the subjects that wait to be asked about; above it everybody is.
	maxRevoked = 10_000
	// askWait and maxAskWait bound the wait before those are asked about again of whom
	// nothing could be told.
	askWait    = time.Second
	maxAskWait = 10 * time.Second
)

// revocations are the subjects that somebody has told us to ask about.
type revocations struct {
	come chan struct{} // capacity 1: there are some

	mu        sync.Mutex // guards what follows
	subjects  map[string]struct{}
	everybody bool
}

// add notes a subject.
func (r *revocations) add(subject string) {
	r.mu.Lock()
	if r.subjects == nil {
		r.subjects = map[string]struct{}{}
	}
	if r.subjects[subject] = struct{}{}; len(r.subjects) > maxRevoked {
		r.subjects, r.everybody = nil, true
	}
	r.mu.Unlock()
	r.wake()
}

func (r *revocations) addEverybody() {
	r.mu.Lock()
	r.subjects, r.everybody = nil, true
	r.mu.Unlock()
	r.wake()
}

func (r *revocations) wake() {
	select {
	case r.come <- struct{}{}:
	default:
	}
}

func (r *revocations) take() (subjects map[string]struct{}, everybody bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	subjects, everybody = r.subjects, r.everybody
	r.subjects, r.everybody = nil, false
	return subjects, everybody
}

// Heed looks for revoked subjects in a commit, once it can be seen: Run then asks
// Authorize about the streams of each. It never blocks.
func (s *Server) Heed(commit freshet.Commit) {
	for _, topic := range commit.Topics {
		if subject, ok := strings.CutPrefix(topic, revokedTopics); ok {
			s.granted.news.add(unescape(subject))
		}
	}
	for _, floor := range commit.Floors {
		if revokesSome(floor) {
			s.granted.news.addEverybody()
		}
	}
}

// HeedGap has Run ask about every stream: subjects may have been revoked that nobody
// has told of.
func (s *Server) HeedGap() { s.granted.news.addEverybody() }

// unescape returns what was escaped. A subject that nobody has escaped is as good,
// where that is not ambiguous: what is asked for in vain does no harm.
func unescape(value string) string {
	if plain, err := url.PathUnescape(value); err == nil {
		return plain
	}
	return value
}

// revokesSome reports whether a pattern may match a topic of revokedTopics.
func revokesSome(pattern freshet.Pattern) bool {
	rest := string(pattern)
	for want := range strings.SplitSeq(strings.TrimSuffix(revokedTopics, "/"), "/") {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if segment == "**" {
			return true
		}
		if segment != "*" && segment != want {
			return false
		}
	}
	return true
}

// askAboutRevoked asks about those whom Heed has noted until ctx ends. Of whom nothing
// can be told, they are asked about again.
func (s *Server) askAboutRevoked(ctx context.Context) error {
	again := time.NewTimer(time.Hour)
	again.Stop()
	defer again.Stop()
	var unknown []*session
	wait := askWait
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		case <-s.granted.news.come:
			wait = askWait
		}
		s.granted.round.Add(1)
		some := s.revoked()
		if unknown = s.askAbout(ctx, append(some, unknown...)); len(unknown) > 0 {
			again.Reset(wait)
			wait = min(2*wait, maxAskWait)
		}
	}
}

// revoked takes what Heed has noted, and returns the streams that it is about.
func (s *Server) revoked() []*session {
	subjects, everybody := s.granted.news.take()
	if len(subjects) == 0 && !everybody {
		return nil
	}
	all := s.granted.everyone()
	if everybody {
		return all
	}
	some := all[:0]
	for _, of := range all {
		subject, _ := s.config.Credential(of.who)
		if _, ok := subjects[subject]; ok {
			some = append(some, of)
		}
	}
	return some
}

// askInTurn asks about every stream once in each Reauthorize, until ctx ends: a part
// of them at a time, so that whoever answers isn't asked about all of them at once.
func (s *Server) askInTurn(ctx context.Context) error {
	if s.config.Reauthorize < 0 || s.config.Authorize == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(max(s.config.Reauthorize/turns, time.Millisecond))
	defer ticker.Stop()
	for turn := 0; ; turn = (turn + 1) % turns {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			s.askAbout(ctx, s.granted.ofTurn(turn))
		}
	}
}
