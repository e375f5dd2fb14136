package wal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// Whatever a transaction tells, it says why, and by what commit; and nothing where
// nobody asks.
func TestDecoder_saysWhy(t *testing.T) {
	describe := relationOf(rel, "public", "messages", messageColumns)
	type why struct {
		kind  freshet.ChangeKind
		table string
		rows  int
	}
	const table = "public.messages"
	for name, c := range map[string]struct {
		messages [][]byte
		of       string // a topic or a pattern
		why
	}{
		"insert":         {[][]byte{row('I', rel, tupleOf('N', "a", "1"))}, "conversations/a/messages", why{freshet.Inserted, table, 1}},
		"two rows":       {[][]byte{row('I', rel, tupleOf('N', "a", "1")), row('I', rel, tupleOf('N', "a", "2"))}, "conversations/a/messages", why{freshet.Inserted, table, 2}},
		"one of them":    {[][]byte{row('I', rel, tupleOf('N', "a", "1")), row('I', rel, tupleOf('N', "a", "2"))}, "conversations/a/messages/2", why{freshet.Inserted, table, 1}},
		"update":         {[][]byte{row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "a", "1"))}, "conversations/a/messages", why{freshet.Updated, table, 1}},
		"moved away":     {[][]byte{row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "b", "1"))}, "conversations/a/messages", why{freshet.Updated, table, 1}},
		"moved to":       {[][]byte{row('U', rel, tupleOf('K', "a", "1"), tupleOf('N', "b", "1"))}, "conversations/b/messages", why{freshet.Updated, table, 1}},
		"delete":         {[][]byte{row('D', rel, tupleOf('K', "a", "1"))}, "conversations/a/messages", why{freshet.Deleted, table, 1}},
		"not told":       {[][]byte{row('D', rel)}, "conversations/*/messages", why{freshet.Deleted, table, 1}},
		"first of both":  {[][]byte{row('I', rel, tupleOf('N', "a", "1")), row('D', rel, tupleOf('K', "a", "2"))}, "messages", why{freshet.Inserted, table, 2}},
		"truncate":       {[][]byte{truncate(rel)}, "conversations/*/messages", why{freshet.Truncated, table, 0}},
		"message":        {[][]byte{emitted(1, "freshet", []byte("reports/daily"))}, "reports/daily", why{freshet.Message, "", 0}},
		"source":         {[][]byte{emitted(1, messageSource, []byte(table))}, "conversations/*/messages", why{freshet.Unsure, table, 0}},
		"of a later one": {[][]byte{{'?'}}, "**", why{freshet.Unknown, "", 0}},
		"too many": {slices.Concat([][]byte{emitted(1, "freshet", []byte("reports/daily"))}, func() (all [][]byte) {
			for i := range maxTransactionTopics {
				all = append(all, row('I', rel, tupleOf('N', "a", i)))
			}
			return all
		}()), "conversations/*/messages", why{freshet.TooMany, table, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, explain := range []bool{true, false} {
				d := newDecoder(testProgram(t), new(enums), func() {})
				d.reasons = newReasons(explain)
				var tx *transaction
				for _, m := range slices.Concat([][]byte{describe, begin(5), row('I', rel, tupleOf('N', "before", "1")), commitAt(50), begin(77)}, c.messages, [][]byte{commitAt(100)}) {
					next, err := d.decode(m)
					require.NoError(t, err)
					if next != nil {
						tx = next
					}
				}
				if !explain {
					require.Nil(t, tx.changes)
					continue
				}
				var told []string
				for _, change := range tx.changes {
					require.Equal(t, freshet.Revision{Position: 100}, change.Revision)
					require.EqualValues(t, 77, change.XID)
					require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), change.Time)
					told = append(told, change.Topic+string(change.Pattern))
					if told[len(told)-1] == c.of {
						found := why{change.What, change.Table, change.Rows}
						require.Equal(t, c.why, found)
					}
				}
				require.Contains(t, told, c.of)
				want := slices.Clone(tx.topics)
				for _, f := range tx.floors {
					want = append(want, string(f))
				}
				require.ElementsMatch(t, want, told, "all that is told, and no more")
			}
		})
	}
}

// G7: what waits at a held gate is bounded, with reasons as well.
func TestGate_keepsTheNewestReasons(t *testing.T) {
	g := gate{limit: 1}
	const n = 5 * maxTransactionTopics
	for i := range uint32(n) {
		change := freshet.Change{Topic: "busy", What: freshet.Inserted, XID: i, Revision: freshet.Revision{Position: uint64(i + 1)}}
		g.push(&transaction{xid: i, end: pglogrepl.LSN(i + 1), topics: []string{"busy"}, changes: []freshet.Change{change}})
		require.LessOrEqual(t, len(g.queue[len(g.queue)-1].changes), 2*maxTransactionTopics)
	}
	last := g.queue[len(g.queue)-1]
	require.EqualValues(t, n-1, last.changes[len(last.changes)-1].XID)

	// More topics than can be named: it says that, too.
	for i := range uint32(maxTransactionTopics + 1) {
		topic := fmt.Sprint("t", i)
		g.push(&transaction{xid: n + i, end: pglogrepl.LSN(n + i + 1), topics: []string{topic}, changes: []freshet.Change{{Topic: topic, What: freshet.Inserted}}})
	}
	last = g.queue[len(g.queue)-1]
	require.Equal(t, []freshet.Pattern{allTopics}, last.floors)
	require.True(t, slices.ContainsFunc(last.changes, func(c freshet.Change) bool { return c.Pattern == allTopics && c.What == freshet.TooMany }))
}
