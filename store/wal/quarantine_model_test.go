package wal

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// quarantineModel is a database whose catalog changes while transactions write,
// a gate that looks before it lets anything through, and a watchdog whose round
// is cut into steps, so that everything may happen in between. What is written
// while the catalog isn't right is lost. It knows what was; the quarantine
// doesn't.
type quarantineModel struct {
	q *quarantine

	position pglogrepl.LSN
	right    bool
	version  int             // of the catalog
	next     uint64          // transaction id
	running  map[uint64]bool // by id: it has lost something
	entries  []modelEntry    // written, and not yet let through
	lost     []pglogrepl.LSN // ends of commits

	frontier pglogrepl.LSN
	held     bool          // as the sink knows
	told     pglogrepl.LSN // all topics, last

	round *modelRound // of the watchdog
}

type modelEntry struct {
	end    pglogrepl.LSN
	notice bool
}

// modelRound is what the watchdog has seen.
type modelRound struct {
	suspect
	right bool
	seen  bool // the fingerprint was the one that the gate had seen
}

// TestQuarantine_model (F49, F53): whenever the frontier has reached the end of a
// commit that lost something, the source is held, or all its topics were told
// above it (Q1, Q3); and once the catalog is right and everybody has ended, it is
// let go.
func TestQuarantine_model(t *testing.T) {
	program, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		m := &quarantineModel{q: newQuarantine(program.Sources()), right: true, next: 1, running: map[uint64]bool{}}
		m.q.look([]sight{{fingerprint: "0"}})
		m.mend(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"ddl":     m.ddl,
			"begin":   func(*rapid.T) { m.running[m.next] = false; m.next++ },
			"write":   m.write,
			"commit":  m.commit,
			"release": m.release,
			"examine": m.examine,
			"proceed": m.proceed,
			"again":   func(*rapid.T) { m.q.again() },
			"warning": func(*rapid.T) { m.q.distrust("a warning", true) },
			"round":   m.turn, // most of what happens, so that a quarantine gets to its end
			"round 2": m.turn,
			"round 3": m.turn,
			"session": func(*rapid.T) { m.round = nil; m.q.restart(); m.look() },
		})
		m.mend(t)
	})
}

// mend mends everything.
func (m *quarantineModel) mend(t *rapid.T) {
	if !m.right {
		m.ddl(t)
	}
	for xid := range m.running {
		m.end(xid)
	}
	for range 10 {
		m.turn(t)
		m.position++
		m.entries = append(m.entries, modelEntry{end: m.position})
		m.release(t)
		m.check(t)
	}
	require.False(t, m.held, "it waits for nothing: %+v", m.q.suspects[0])
}

// turn is a round of the watchdog between two batches.
func (m *quarantineModel) turn(t *rapid.T) {
	m.release(t)
	m.examine(t)
	m.proceed(t)
}

func (m *quarantineModel) ddl(*rapid.T) {
	m.right = !m.right
	m.version++
	m.position++ // in no entry: the stream doesn't have it
}

func (m *quarantineModel) one(t *rapid.T) uint64 {
	if len(m.running) == 0 {
		t.Skip("nobody runs")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.running))).Draw(t, "xid")
}

func (m *quarantineModel) write(t *rapid.T) {
	xid := m.one(t)
	m.running[xid] = m.running[xid] || !m.right
}

func (m *quarantineModel) commit(t *rapid.T) { m.end(m.one(t)) }

func (m *quarantineModel) end(xid uint64) {
	m.position++
	m.entries = append(m.entries, modelEntry{end: m.position})
	if m.running[xid] {
		m.lost = append(m.lost, m.position)
	}
	delete(m.running, xid)
}

func (m *quarantineModel) look() { m.q.look([]sight{{fingerprint: strconv.Itoa(m.version)}}) }

// release lets everything through, after a look.
func (m *quarantineModel) release(*rapid.T) {
	m.look()
	m.sync()
	for _, e := range m.entries {
		if len(m.q.tell()) > 0 || e.notice {
			m.told = e.end
		}
		m.frontier = e.end
	}
	m.entries = nil
	m.sync()
}

func (m *quarantineModel) sync() {
	m.q.reached(m.frontier)
	if floors, changed := m.q.takeChanged(); changed {
		m.held = len(floors) > 0
	}
}

func (m *quarantineModel) examine(*rapid.T) {
	u := m.q.examined()[0]
	m.round = &modelRound{suspect: u, right: m.right, seen: u.seen.fingerprint == strconv.Itoa(m.version)}
}

// proceed is the rest of the watchdog's round.
func (m *quarantineModel) proceed(*rapid.T) {
	r := m.round
	m.round = nil
	switch {
	case r == nil || !r.seen:
	case !r.right:
		m.q.wrong(0, r.suspect, "something")
	case !r.held, r.step == telling:
	case r.step == wrong:
		m.q.running(0, r.suspect, m.next)
		m.next++
	default:
		xmin := m.next
		for xid := range m.running {
			xmin = min(xmin, xid)
		}
		if xmin > r.after {
			m.position++
			m.entries = append(m.entries, modelEntry{end: m.position, notice: true})
			m.q.telling(0, r.suspect, m.position)
		}
	}
}

func (m *quarantineModel) check(t *rapid.T) {
	for _, b := range m.lost {
		if b <= m.frontier && !m.held && m.told <= b {
			t.Fatalf("the frontier is at %d, above %d, where something was lost; told last at %d, and not in quarantine", m.frontier, b, m.told)
		}
	}
}
