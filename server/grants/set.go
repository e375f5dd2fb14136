package grants

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/freshet-dev/freshet/internal/lru"
)

// Action is what somebody wants to do with topics.
type Action string

// The actions.
const (
	Read      Action = "read"      // have an answer that depends on them
	Write     Action = "write"     // change what they tell of
	Subscribe Action = "subscribe" // be told of their changes
	Admin     Action = "admin"     // see metrics and profiles, which have no topics
)

// ErrDenied says that the caller has no grant. It is the same whether what was asked
// for exists or not, and says nothing of either.
var ErrDenied = errors.New("the caller has no grant for this")

// Set is a compiled file. It never changes; use Parse.
type Set struct {
	rules        []*rule // anonymous first, if there is one
	takesDetails bool
	kept         *lru.Cache[[sha256.Size]byte, *may] // by a caller's digest
}

func newSet() *Set { return &Set{kept: lru.New[[sha256.Size]byte, *may](keptBytes)} }

// keptBytes bounds what is kept of callers: at some 700 bytes for a caller with a
// few patterns, 40,000 of them.
const keptBytes = 32 << 20

// What is kept costs in memory beyond its texts, about.
const (
	mayOverhead   = 400
	boundOverhead = 48
	valueOverhead = 72
)

// Authorize says whether a caller may do something with all of the topics: nil,
// ErrDenied, or an error that says that it can't be told now. No topics at all are
// denied: nobody knows what would be granted.
func (s *Set) Authorize(ctx context.Context, caller Caller, action Action, topics []string) error {
	if len(topics) == 0 {
		return ErrDenied
	}
	may, err := s.of(ctx, caller)
	if err != nil {
		return err
	}
	patterns := may.of(action)
	for _, topic := range topics {
		if !matchAny(patterns, topic) {
			return ErrDenied
		}
	}
	return nil
}

// AuthorizeAdmin says whether a caller may use the admin port: nil, ErrDenied, or an
// error that says that it can't be told now. No pattern grants it.
func (s *Set) AuthorizeAdmin(ctx context.Context, caller Caller) error {
	may, err := s.of(ctx, caller)
	if err != nil {
		return err
	}
	if !may.admin {
		return ErrDenied
	}
	return nil
}

func matchAny(patterns []bound, topic string) bool {
	for i := range patterns {
		if patterns[i].match(topic) {
			return true
		}
	}
	return false
}

// may is what one caller may.
type may struct {
	read, write []bound
	admin       bool
	bytes       int // about
}

func (m *may) of(action Action) []bound { return choose(action, m.read, m.write) }

// choose returns what counts for an action.
func choose[T any](action Action, read, write []T) []T {
	switch action {
	case Read, Subscribe:
		return read
	case Write:
		return write
	}
	return nil
}

// of returns what a caller may, as it was found out before or by asking the rules.
func (s *Set) of(ctx context.Context, caller Caller) (*may, error) {
	digest, named := caller.Digest()
	if named {
		if m, ok := s.kept.Get(digest); ok {
			return m, nil
		}
	}
	m, err := s.ask(ctx, &caller)
	if err == nil && named {
		s.kept.Put(digest, m, m.bytes)
	}
	return m, err
}

// ask goes through the rules.
func (s *Set) ask(ctx context.Context, caller *Caller) (*may, error) {
	// Whoever comes next takes what is found here: it must not end with this call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxDecide)
	defer cancel()
	claims := caller.claims()
	m := &may{bytes: mayOverhead}
	for _, r := range s.rules {
		if r.number > 0 && !caller.isKnown() {
			break
		}
		if r.when != nil {
			applies, _, err := r.when.holds(ctx, claims)
			if err != nil {
				return nil, fmt.Errorf("%v: %s: when takes longer than %v: simplify it", r.at, r.name(), maxDecide)
			}
			if !applies {
				continue
			}
		}
		m.add(r.read, r.write, claims)
		m.admin = m.admin || r.admin
	}
	if s.takesDetails {
		d := newDetails(claims)
		m.add(d.read, d.write, claims)
	}
	return m, nil
}

func (m *may) add(read, write []*pattern, claims map[string]any) {
	m.read = m.bind(m.read, read, claims)
	m.write = m.bind(m.write, write, claims)
}

func (m *may) bind(list []bound, patterns []*pattern, claims map[string]any) []bound {
	for _, p := range patterns {
		b, ok := p.bind(claims)
		if !ok {
			continue
		}
		list = append(list, b)
		m.bytes += boundOverhead
		for _, v := range b.values {
			m.bytes += valueOverhead * max(len(v.many), 1)
			for text := range v.many {
				m.bytes += len(text)
			}
		}
	}
	return list
}
