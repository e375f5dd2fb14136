package wal

import (
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// Prefixes of pg_logical_emit_message that capture listens to.
const (
	// messageTopic invalidates the topic in the message's content.
	messageTopic = "freshet"
	// messageSource invalidates all topics of the source whose
	// `schema.table` is the message's content; the watchdog writes it.
	messageSource = "freshet.source"
	// messageVersion says that a contract has been recorded (versions.go). It has no
	// content: whoever forges one causes a look.
	messageVersion = "freshet.contract"
	// messageNudge says nothing: its commit moves the WAL along.
	messageNudge = "freshet.nudge"
)

// maxTransactionTopics is how many distinct topics a transaction may name one
// by one; a larger one is told as all topics of the sources that it touched.
const maxTransactionTopics = 10_000

// transaction is one committed transaction, projected onto topics.
type transaction struct {
	xid    uint32 // the top-level xid's low 32 bits, as the protocol has it
	end    pglogrepl.LSN
	topics []string          // distinct
	floors []freshet.Pattern // distinct
	// changes say why, if Config.Explain asks; else nil.
	changes []freshet.Change
	// announced: it has recorded a contract, of this version or another.
	announced bool
}

// decoder turns the messages of one replication stream into transactions. It
// is pure: no I/O, no clock; one goroutine.
//
// Invariant: what a transaction's topics and floors name is a superset of the
// topics of the old and the new version of each row that it changed. Whatever
// can't be told exactly (TRUNCATE, a column that was not sent, a row that can't
// be read, too many topics, a kind of message that isn't known) becomes a floor,
// never silence.
//
// An error ends the session, and the next one meets the same WAL. So nothing is
// one that somebody could cause who may write to the database, or may not even
// that: pg_logical_emit_message is everybody's.
type decoder struct {
	program   *contract.Program
	relations map[uint32]*relation
	bases     map[uint32]uint32 // of domains that were described: the type below
	enums     *enums
	// changed is called when a Relation message arrives: the table's shape
	// may have changed, so the watchdog should look.
	changed func()

	open    bool
	xid     uint32
	time    time.Time // of its commit
	reasons *reasons  // nil: nobody asks why
	topics  map[string]struct{}
	floors  map[freshet.Pattern]struct{}
	sources map[*contract.Source]struct{} // touched, should the topics become too many
	free    bool                          // a topic came from a message, not from a source
	large   bool                          // it had too many topics
	version bool                          // it has recorded a contract
	row     rowMessage
	scratch []string

	ignored  uint64 // messages of pg_logical_emit_message that were not for us, or not valid
	oversize uint64 // transactions told as floors for their size
}

func newDecoder(program *contract.Program, known *enums, changed func()) *decoder {
	return &decoder{
		program:   program,
		relations: make(map[uint32]*relation),
		bases:     make(map[uint32]uint32),
		enums:     known,
		changed:   changed,
		topics:    make(map[string]struct{}),
		floors:    make(map[freshet.Pattern]struct{}),
		sources:   make(map[*contract.Source]struct{}),
	}
}

// decode takes one message of the stream. It returns a transaction when the
// message is its commit. data is not kept.
func (d *decoder) decode(data []byte) (*transaction, error) {
	if len(data) == 0 {
		return nil, errTruncated
	}
	body := data[1:]
	switch kind := data[0]; kind {
	case 'B':
		m, err := parseBegin(body)
		d.begin(m)
		return nil, err
	case 'C':
		m, err := parseCommit(body)
		if err != nil {
			return nil, err
		}
		return d.commit(m.end)
	case 'R':
		m, err := parseRelation(body)
		if err != nil {
			return nil, err
		}
		d.relation(m)
		return nil, nil
	case 'I', 'U', 'D':
		err := d.row.parse(body)
		return nil, d.change(kind, &d.row, err == nil)
	case cutRow:
		d.row.relation = (&cursor{rest: body}).uint32()
		return nil, d.change(kind, &d.row, false)
	case 'T':
		ids, err := parseTruncate(body)
		for _, id := range ids {
			if r := d.relations[id]; r != nil {
				d.all(r.source, freshet.Truncated)
			}
		}
		return nil, err
	case 'M':
		if m, err := parseLogicalMessage(body); err == nil {
			d.message(m)
		} else {
			d.ignored++
		}
		return nil, nil
	case 'Y':
		d.domain(body)
		return nil, nil
	case 'O':
		return nil, nil // origin: nothing of ours
	default:
		// Of a server newer than the protocol we asked for: whatever it says.
		// Outside a transaction it says nothing that was committed.
		if d.open {
			d.floor(allTopics, freshet.Unknown, nil)
		}
		return nil, nil
	}
}

func (d *decoder) begin(m beginMessage) {
	d.open, d.xid, d.time, d.free, d.large, d.version = true, m.xid, m.time, false, false, false
	d.reasons.begin()
	clear(d.topics)
	clear(d.floors)
	clear(d.sources)
}

func (d *decoder) commit(end pglogrepl.LSN) (*transaction, error) {
	if !d.open {
		return nil, fmt.Errorf("pgoutput: commit at %s without a begin", end)
	}
	d.open = false
	tx := &transaction{xid: d.xid, end: end, announced: d.version}
	for f := range d.floors {
		tx.floors = append(tx.floors, f)
	}
	if len(d.topics) > 0 {
		tx.topics = make([]string, 0, len(d.topics))
		for t := range d.topics {
			tx.topics = append(tx.topics, t)
		}
	}
	tx.changes = d.reasons.of(d.xid, end, d.time)
	return tx, nil
}

// change adds the topics of the old and of the new row; whole says that the
// message could be read.
func (d *decoder) change(kind byte, m *rowMessage, whole bool) error {
	r := d.relations[m.relation]
	if r == nil {
		return fmt.Errorf("pgoutput: a row of relation %d, which was never described", m.relation)
	}
	if r.rows == nil && r.types != nil && len(d.enums.all()) != r.tried {
		d.bind(r)
	}
	what := kindOf(kind)
	d.reasons.next()
	switch {
	case r.source == nil:
		return nil
	case !whole, r.rows == nil, kind != 'I' && !r.covered, kind == 'D' && m.old == nil:
		d.all(r.source, what)
		return nil
	}
	d.sources[r.source] = struct{}{}
	if m.old != nil {
		d.project(r, m.old, nil, what)
	}
	if m.new != nil {
		// No old row was sent: the identity, which covers every column of
		// the templates, didn't change, so the old topics are the new ones.
		d.project(r, m.new, m.old, what)
	}
	return nil
}

// project adds the topics of one row. A column that was not sent, because its
// TOAST value is unchanged, is taken from the old row.
func (d *decoder) project(r *relation, row, old tuple, what freshet.ChangeKind) {
	known := true
	column := func(i int) ([]byte, bool) {
		at := r.columns[i]
		if at >= len(row) {
			known = false
			return nil, false
		}
		v := row[at]
		if v.kind == 'u' && at < len(old) {
			v = old[at]
		}
		if v.kind == 'u' {
			known = false
		}
		return v.text, v.kind == 't'
	}
	var floors []freshet.Pattern // of templates whose topic can't be one
	d.scratch, floors = r.rows.AppendTopics(d.scratch[:0], column)
	if !known {
		d.all(r.source, what)
		return
	}
	for _, f := range floors {
		d.floor(f, what, r.source)
	}
	for _, t := range d.scratch {
		d.topics[t] = struct{}{}
		d.reasons.note(subject{topic: t}, what, r.source)
	}
	d.bound()
}

// all marks all topics of a source.
func (d *decoder) all(s *contract.Source, what freshet.ChangeKind) {
	if s == nil {
		return
	}
	for _, f := range s.Floors() {
		d.floor(f, what, s)
	}
}

// floor marks all topics that a pattern matches. s is nil where that is no source's.
func (d *decoder) floor(f freshet.Pattern, what freshet.ChangeKind, s *contract.Source) {
	d.floors[f] = struct{}{}
	d.reasons.note(subject{pattern: f}, what, s)
}

// bound turns a set of topics that has grown too large into floors.
func (d *decoder) bound() {
	if len(d.topics) <= maxTransactionTopics {
		return
	}
	if !d.large {
		d.large = true
		d.oversize++
	}
	for s := range d.sources {
		d.all(s, freshet.TooMany)
	}
	clear(d.sources)
	if d.free {
		d.floor(allTopics, freshet.TooMany, nil)
		d.free = false
	}
	clear(d.topics)
	d.reasons.forgetTopics()
}

// message takes what pg_logical_emit_message wrote. Anybody may write one, so
// nothing in it is trusted. One outside a transaction may be of a transaction
// that is still open, or that was rolled back: it says nothing.
func (d *decoder) message(m logicalMessage) {
	switch {
	case m.prefix == messageNudge:
	case !m.transactional:
		d.ignored++
	case m.prefix == messageVersion:
		d.version = true
	case m.prefix == messageTopic:
		topic := string(m.content)
		if freshet.CheckTopic(topic) != nil {
			d.ignored++
			return
		}
		d.topics[topic] = struct{}{}
		d.reasons.next()
		d.reasons.note(subject{topic: topic}, freshet.Message, nil)
		d.free = true
		d.bound()
	case m.prefix == messageSource:
		for _, s := range d.program.Sources() {
			if s.Schema+"."+s.Table == string(m.content) {
				d.all(s, freshet.Unsure)
				return
			}
		}
		d.ignored++ // a source of another version of the contract
	default:
		d.ignored++
	}
}
