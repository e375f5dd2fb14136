package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
)

// The messages of pgoutput, protocol version 1 (PostgreSQL manual, "Logical
// Replication Message Formats").
//
// They are parsed here, in place, and not by pglogrepl: its parser trusts the
// lengths it reads (a truncated message panics) and allocates per column,
// while capture needs none of a row but a few columns. Slices point into the
// message and are valid until the next one is received.

// errTruncated says that a message ended before its fields did.
var errTruncated = errors.New("pgoutput: message is truncated")

// cursor reads a message's fields; the first read past the end sticks.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.rest) {
		c.err = errTruncated
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) string() string {
	for i, b := range c.rest {
		if b == 0 {
			s := string(c.rest[:i])
			c.rest = c.rest[i+1:]
			return s
		}
	}
	c.err = errTruncated
	return ""
}

// relationMessage describes a table as its next rows will be laid out.
type relationMessage struct {
	id            uint32
	schema, table string
	columns       []relationColumn
}

type relationColumn struct {
	name    string
	key     bool // part of the replica identity
	typeOID uint32
}

func parseRelation(body []byte) (relationMessage, error) {
	c := cursor{rest: body}
	m := relationMessage{id: c.uint32(), schema: c.string(), table: c.string()}
	if m.schema == "" {
		m.schema = "pg_catalog" // the protocol's abbreviation
	}
	c.byte() // replica identity: checked against the catalog, not here
	for range c.uint16() {
		column := relationColumn{key: c.byte()&1 == 1, name: c.string(), typeOID: c.uint32()}
		c.uint32() // type modifier
		if c.err != nil {
			break
		}
		m.columns = append(m.columns, column)
	}
	return m, c.err
}

// value is one column of a tuple.
type value struct {
	kind byte // 'n' NULL, 'u' unchanged TOAST (not sent), 't' text
	text []byte
}

// tuple is a row in the order of its relation's columns; nil is no tuple.
type tuple []value

// appendTuple parses a tuple into dst, so that its array can be reused.
func (c *cursor) appendTuple(dst tuple) tuple {
	dst = dst[:0]
	for range c.uint16() {
		v := value{kind: c.byte()}
		switch v.kind {
		case 'n', 'u':
		case 't':
			v.text = c.take(int(c.uint32()))
		default:
			if c.err == nil {
				c.err = fmt.Errorf("pgoutput: column of kind %q", v.kind)
			}
		}
		if c.err != nil {
			return dst
		}
		dst = append(dst, v)
	}
	return dst
}

// rowMessage is an Insert, Update or Delete.
type rowMessage struct {
	relation uint32
	old, new tuple // nil: not sent
}

// parse takes the body of an 'I', 'U' or 'D' message into the arrays of
// m's tuples. m.relation is right also where an error says that the rest isn't
// known.
func (m *rowMessage) parse(body []byte) error {
	c := cursor{rest: body}
	oldArray, newArray := m.old, m.new
	m.relation, m.old, m.new = c.uint32(), nil, nil
	for len(c.rest) > 0 && c.err == nil {
		switch kind := c.byte(); kind {
		case 'K', 'O':
			m.old = c.appendTuple(oldArray)
		case 'N':
			m.new = c.appendTuple(newArray)
		default:
			return fmt.Errorf("pgoutput: tuple of kind %q", kind)
		}
	}
	return c.err
}

// parseTruncate returns the relations that were truncated.
func parseTruncate(body []byte) ([]uint32, error) {
	c := cursor{rest: body}
	n := c.uint32()
	c.byte() // CASCADE, RESTART IDENTITY
	var relations []uint32
	for range n {
		id := c.uint32()
		if c.err != nil {
			return nil, c.err
		}
		relations = append(relations, id)
	}
	return relations, c.err
}

// logicalMessage is what pg_logical_emit_message wrote.
type logicalMessage struct {
	transactional bool
	prefix        string
	content       []byte // may be cut off: see maxMessageBytes
}

// parseLogicalMessage takes the body of an 'M' message. Its prefix can be as long
// as its content, and be cut off as well: then it is nobody's we know.
func parseLogicalMessage(body []byte) (logicalMessage, error) {
	c := cursor{rest: body}
	m := logicalMessage{transactional: c.byte()&1 == 1}
	c.uint64() // its position
	m.prefix = c.string()
	c.uint32() // the content's length; the filter may have cut it
	m.content = c.rest
	return m, c.err
}

// beginMessage opens a transaction.
type beginMessage struct {
	xid  uint32
	time time.Time // when it was committed
}

// epochOfPostgres is what its timestamps count microseconds from.
var epochOfPostgres = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func parseBegin(body []byte) (beginMessage, error) {
	c := cursor{rest: body}
	c.uint64()              // where its commit record begins
	at := int64(c.uint64()) //nolint:gosec // signed, as Postgres has it
	return beginMessage{xid: c.uint32(), time: epochOfPostgres.Add(time.Duration(at) * time.Microsecond)}, c.err
}

// commitMessage closes a transaction. Its position is its end, everywhere:
// commits are sent in the order of their ends, and a keepalive may already
// have reported a position above a commit's beginning.
type commitMessage struct{ end pglogrepl.LSN }

func parseCommit(body []byte) (commitMessage, error) {
	c := cursor{rest: body}
	c.byte()   // flags
	c.uint64() // where its record begins
	return commitMessage{end: pglogrepl.LSN(c.uint64())}, c.err
}
