package wal

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

func testProgram(t testing.TB) *contract.Program {
	t.Helper()
	p, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	require.NoError(t, err)
	return p
}

// Builders of pgoutput messages.

func be16(b []byte, v int) []byte    { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
func cstr(b []byte, s string) []byte { return append(append(b, s...), 0) }

func begin(xid uint32) []byte { return be32(be64(be64([]byte{'B'}, 1), 0), xid) }

func commitAt(end pglogrepl.LSN) []byte {
	return be64(be64(be64([]byte{'C', 0}, uint64(end)-1), uint64(end)), 0)
}

type testColumn struct {
	name string
	key  bool
	oid  uint32
}

var messageColumns = []testColumn{{"conversation", true, 25}, {"id", true, 2950}}

func relationOf(id uint32, schema, table string, columns []testColumn) []byte {
	b := append(cstr(cstr(be32([]byte{'R'}, id), schema), table), 'i')
	b = be16(b, len(columns))
	for _, c := range columns {
		b = append(b, map[bool]byte{true: 1}[c.key])
		b = be32(be32(cstr(b, c.name), c.oid), 0xffffffff)
	}
	return b
}

// tupleOf: nil is NULL, "\x00toast" an unchanged TOAST value.
func tupleOf(kind byte, values ...any) []byte {
	b := be16([]byte{kind}, len(values))
	for _, v := range values {
		switch v {
		case nil:
			b = append(b, 'n')
		case "toast":
			b = append(b, 'u')
		default:
			text := fmt.Sprint(v)
			b = append(be32(append(b, 't'), uint32(len(text))), text...)
		}
	}
	return b
}

func row(kind byte, relation uint32, tuples ...[]byte) []byte {
	return slices.Concat(append([][]byte{be32([]byte{kind}, relation)}, tuples...)...)
}

func truncate(relations ...uint32) []byte {
	b := append(be32([]byte{'T'}, uint32(len(relations))), 0)
	for _, r := range relations {
		b = be32(b, r)
	}
	return b
}

// decodeAll runs messages through a decoder and returns the transactions.
func decodeAll(t *testing.T, messages ...[]byte) (txs []*transaction, d *decoder) {
	t.Helper()
	d = newDecoder(testProgram(t), new(enums), func() {})
	for i, m := range messages {
		tx, err := d.decode(m)
		require.NoErrorf(t, err, "message %d", i)
		if tx != nil {
			slices.Sort(tx.topics)
			txs = append(txs, tx)
		}
	}
	return txs, d
}

const rel = 7

func TestDecoder_projectsOldAndNew(t *testing.T) {
	describe := relationOf(rel, "public", "messages", messageColumns)
	all := testProgram(t).Source("public", "messages").Floors()
	topics := func(pairs ...[2]string) []string {
		list := []string{"messages", "conversations/-/messages"}
		for _, p := range pairs {
			list = append(list, "conversations/"+p[0]+"/messages", "conversations/"+p[0]+"/messages/"+p[1])
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	for _, c := range []struct {
		name   string
		msg    []byte
		topics []string
		floors bool
	}{
		{"insert", row('I', rel, tupleOf('N', "a", "1")), topics([2]string{"a", "1"}), false},
		{"update that keeps the identity", row('U', rel, tupleOf('N', "a", "1")), topics([2]string{"a", "1"}), false},
		{"update that moves", row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "b", "1")), topics([2]string{"a", "1"}, [2]string{"b", "1"}), false},
		{"full identity", row('U', rel, tupleOf('O', "a", "1"), tupleOf('N', "b", "1")), topics([2]string{"a", "1"}, [2]string{"b", "1"}), false},
		{"delete", row('D', rel, tupleOf('K', "a", "1")), topics([2]string{"a", "1"}), false},
		{"delete without an old row", row('D', rel), nil, true},
		{"unchanged TOAST, old row known", row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "toast", "2")), topics([2]string{"a", "1"}, [2]string{"a", "2"}), false},
		{"unchanged TOAST, nothing known", row('U', rel, tupleOf('N', "toast", "1")), nil, true},
		{"fewer columns than described", row('I', rel, tupleOf('N', "a")), nil, true},
		{"NULL drops its topics", row('I', rel, tupleOf('N', nil, "1")), []string{"conversations/-/messages", "messages"}, false},
		{"escapes", row('I', rel, tupleOf('N', "a/b", "-")), []string{
			"conversations/-/messages", "conversations/a%2Fb/messages", "conversations/a%2Fb/messages/%2D", "messages",
		}, false},
		{"truncate", truncate(rel), nil, true},
		{"truncate of an unknown table", truncate(99), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			txs, _ := decodeAll(t, begin(5), describe, c.msg, commitAt(100))
			require.Len(t, txs, 1)
			require.Equal(t, uint32(5), txs[0].xid)
			require.Equal(t, pglogrepl.LSN(100), txs[0].end)
			require.Equal(t, c.topics, txs[0].topics)
			if c.floors {
				require.ElementsMatch(t, all, txs[0].floors)
			} else {
				require.Empty(t, txs[0].floors)
			}
		})
	}
}

// TestDecoder_shapes: what a table looked like when the WAL was written isn't
// always what the contract needs now. Then all its topics are told.
func TestDecoder_shapes(t *testing.T) {
	all := testProgram(t).Source("public", "messages").Floors()
	insert := row('I', rel, tupleOf('N', "a", "1"))
	for name, c := range map[string]struct {
		columns []testColumn
		msg     []byte
		floors  bool
	}{
		"a column is missing":                       {[]testColumn{{"id", true, 2950}}, row('I', rel, tupleOf('N', "1")), true},
		"a column of another type":                  {[]testColumn{{"conversation", true, 25}, {"id", true, 1114}}, insert, true},
		"another order and more columns":            {[]testColumn{{"x", false, 25}, {"id", true, 2950}, {"conversation", true, 25}}, row('I', rel, tupleOf('N', "z", "1", "a")), false},
		"identity without a column: insert is fine": {[]testColumn{{"conversation", false, 25}, {"id", true, 2950}}, insert, false},
		"identity without a column: update":         {[]testColumn{{"conversation", false, 25}, {"id", true, 2950}}, row('U', rel, tupleOf('N', "a", "1")), true},
		"identity without a column: delete":         {[]testColumn{{"conversation", false, 25}, {"id", true, 2950}}, row('D', rel, tupleOf('K', nil, "1")), true},
	} {
		t.Run(name, func(t *testing.T) {
			txs, _ := decodeAll(t, begin(5), relationOf(rel, "public", "messages", c.columns), c.msg, commitAt(100))
			if c.floors {
				require.ElementsMatch(t, all, txs[0].floors)
				require.Empty(t, txs[0].topics)
			} else {
				require.Empty(t, txs[0].floors)
				require.Contains(t, txs[0].topics, "conversations/a/messages/1")
			}
		})
	}
	txs, _ := decodeAll(t, begin(5), relationOf(rel, "other", "messages", messageColumns), insert, commitAt(100))
	require.Empty(t, txs[0].topics, "a superset publication is accepted")
	require.Empty(t, txs[0].floors)
}

// TestDecoder_bound: more topics than a transaction may name become the floors
// of the sources that it touched, and of everything if a message named any.
func TestDecoder_bound(t *testing.T) {
	d := newDecoder(testProgram(t), new(enums), func() {})
	feed := func(m []byte) *transaction {
		tx, err := d.decode(m)
		require.NoError(t, err)
		return tx
	}
	feed(relationOf(rel, "public", "messages", messageColumns))
	for _, free := range []bool{false, true} {
		feed(begin(1))
		if free {
			feed(emitted(1, "freshet", []byte("reports/daily")))
		}
		for i := range 2*maxTransactionTopics + 3 {
			feed(row('I', rel, tupleOf('N', "a", i)))
			require.LessOrEqual(t, len(d.topics), maxTransactionTopics+4)
		}
		tx := feed(commitAt(9))
		require.Subset(t, tx.floors, testProgram(t).Source("public", "messages").Floors())
		require.Equal(t, free, slices.Contains(tx.floors, allTopics))
		require.LessOrEqual(t, len(tx.topics), maxTransactionTopics)
	}
	require.EqualValues(t, 2, d.oversize, "transactions")

	// Nothing of a large transaction is left over for the next.
	feed(begin(2))
	feed(row('I', rel, tupleOf('N', "b", 1)))
	tx := feed(commitAt(10))
	require.Empty(t, tx.floors)
	require.Len(t, tx.topics, 4)
}

func TestDecoder_messages(t *testing.T) {
	txs, d := decodeAll(t,
		begin(1),
		emitted(1, "freshet", []byte("reports/daily")),
		emitted(0, "freshet", []byte("reports/nontransactional")),
		emitted(1, "freshet", []byte("bad\ntopic")),
		emitted(1, "else", []byte("x")),
		emitted(1, messageNudge, nil),
		emitted(0, messageNudge, nil),
		emitted(1, messageSource, []byte("public.nothing")),
		commitAt(9),
		begin(2), emitted(1, messageSource, []byte("public.messages")), commitAt(10),
	)
	require.Equal(t, []string{"reports/daily"}, txs[0].topics)
	require.Empty(t, txs[0].floors)
	require.EqualValues(t, 4, d.ignored)
	require.ElementsMatch(t, testProgram(t).Source("public", "messages").Floors(), txs[1].floors)
}

// What no server sends is refused, so that nothing is taken for a commit that
// isn't one.
func TestDecoder_refusesNonsense(t *testing.T) {
	describe := relationOf(rel, "public", "messages", messageColumns)
	for name, m := range map[string][]byte{
		"empty":              {},
		"commit alone":       commitAt(9),
		"undescribed row":    row('I', 99, tupleOf('N', "a", "1")),
		"truncated begin":    begin(1)[:10],
		"truncated relation": describe[:20],
		"truncate count":     {'T', 0xff, 0xff, 0xff, 0xff, 0},
	} {
		d := newDecoder(testProgram(t), new(enums), func() {})
		_, err := d.decode(describe)
		require.NoError(t, err)
		_, err = d.decode(m)
		require.Error(t, err, name)
	}
}

// TestDecoder_F74_whatItCannotRead (F10, G2): a row that can't be read is told as
// all topics of its table, a kind of message that isn't known as all topics, and
// a logical message that isn't for us not at all; none of them is an error,
// which the next session would meet again.
func TestDecoder_F74_whatItCannotRead(t *testing.T) {
	source := testProgram(t).Source("public", "messages").Floors()
	for name, c := range map[string]struct {
		message []byte
		floors  []freshet.Pattern
		ignored uint64
	}{
		"column kind":            {row('I', rel, []byte{'N', 0, 1, 'x'}), source, 0},
		"tuple kind":             {row('I', rel, []byte{'Z', 0, 0}), source, 0},
		"length":                 {row('I', rel, []byte{'N', 0, 1, 't', 0xff, 0xff, 0xff, 0xff}), source, 0},
		"another tuple":          {row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "a", "1"), []byte{'Q', 1, 2, 3}), source, 0},
		"cut row":                {row(cutRow, rel), source, 0},
		"unknown":                {[]byte{'?', 1, 2}, []freshet.Pattern{allTopics}, 0},
		"message without an end": {emitted(1, strings.Repeat("x", 5000), nil)[:4096], nil, 1},
		"message of nothing":     {[]byte{'M'}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDecoder(testProgram(t), new(enums), func() {})
			for _, m := range [][]byte{relationOf(rel, "public", "messages", messageColumns), begin(1), c.message} {
				_, err := d.decode(m)
				require.NoError(t, err)
			}
			tx, err := d.decode(commitAt(9))
			require.NoError(t, err)
			require.ElementsMatch(t, c.floors, tx.floors)
			require.Empty(t, tx.topics)
			require.Equal(t, c.ignored, d.ignored)
		})
	}
	d := newDecoder(testProgram(t), new(enums), func() {})
	_, err := d.decode([]byte{'?'})
	require.NoError(t, err, "outside a transaction nothing was committed")
}

// Relation messages wake the watchdog: the table may have another shape.
func TestDecoder_relationsAreTold(t *testing.T) {
	told := 0
	d := newDecoder(testProgram(t), new(enums), func() { told++ })
	for i, m := range [][]byte{relationOf(rel, "public", "messages", messageColumns), relationOf(99, "public", "other", nil)} {
		_, err := d.decode(m)
		require.NoError(t, err)
		require.Equal(t, i+1, told)
	}
}

// FuzzDecoder (F74): no stream makes the decoder panic or grow without bound, and a
// transaction that it returns has valid, distinct topics. It begins with what
// a real walsender sent.
func FuzzDecoder(f *testing.F) {
	describe := relationOf(rel, "public", "messages", messageColumns)
	for _, m := range [][]byte{
		describe, row('I', rel, tupleOf('N', "a", "1")), row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "toast", nil)),
		row('D', rel, tupleOf('O', "a", "1")), truncate(rel, rel), emitted(1, "freshet", []byte("x")), relationOf(rel, "", "", nil),
	} {
		f.Add(frame(describe, begin(1), m, m, commitAt(9)))
	}
	recorded, err := os.ReadFile(recording)
	require.NoError(f, err)
	f.Add(recorded)
	for tx := range transactions(unframe(recorded)) {
		f.Add(frame(tx...))
	}
	program := testProgram(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		d := newDecoder(program, new(enums), func() {})
		for _, m := range unframe(stream) {
			tx, err := d.decode(m)
			if err != nil {
				return
			}
			if tx == nil {
				continue
			}
			slices.Sort(tx.topics)
			if len(slices.Compact(slices.Clone(tx.topics))) != len(tx.topics) {
				t.Fatal("a topic stands twice")
			}
			for _, topic := range tx.topics {
				if err := freshet.CheckTopic(topic); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkDecoder_insert(b *testing.B) {
	d := newDecoder(testProgram(b), new(enums), func() {})
	messages := [][]byte{begin(1), row('I', rel, tupleOf('N', "7", "01890a5d-ac96-774b-bcce-b302099a8057")), commitAt(9)}
	_, err := d.decode(relationOf(rel, "public", "messages", messageColumns))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range messages {
			_, _ = d.decode(m)
		}
	}
}
