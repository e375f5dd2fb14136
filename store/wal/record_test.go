package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"iter"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// recording is what a real walsender sent, for the fuzzer; the flag writes it anew.
const recording = "testdata/walsender.stream"

var record = flag.Bool("record", false, "write "+recording)

// frame and unframe turn messages into one input of the fuzzer, and back.
func frame(messages ...[]byte) (stream []byte) {
	for _, m := range messages {
		stream = append(be32(stream, uint32(len(m))), m...)
	}
	return stream
}

func unframe(stream []byte) (messages [][]byte) {
	for len(stream) >= 4 {
		n := min(uint64(binary.BigEndian.Uint32(stream)), uint64(len(stream)-4))
		messages = append(messages, stream[4:4+n])
		stream = stream[4+n:]
	}
	return messages
}

// transactions cuts a recording after each commit.
func transactions(messages [][]byte) iter.Seq[[][]byte] {
	return func(yield func([][]byte) bool) {
		first := 0
		for i, m := range messages {
			if m[0] == 'C' {
				if !yield(messages[first : i+1]) {
					return
				}
				first = i + 1
			}
		}
	}
}

// everyKind is SQL that makes a walsender send every kind of message that it has
// for us; each is a transaction.
var everyKind = []string{
	`insert into messages (conversation, author, body) values ('a', 'ada', 'one'), ('a', 'ada', 'two')`,
	`update messages set body = 'three' where body = 'two'`,
	`update messages set conversation = 'b' where body = 'three'`,
	`delete from messages where body = 'three'`,
	`select pg_logical_emit_message(true, 'freshet', 'reports/daily')`,
	`select pg_logical_emit_message(false, 'freshet', 'reports/daily')`,
	`select pg_logical_emit_message(true, 'other', '\x00ff'::bytea)`,
	`select pg_logical_emit_message(true, 'freshet.source', 'public.messages')`,
	`alter table messages add column note text`,
	`insert into messages (conversation, author, body) values ('c', 'ada', 'wider')`,
	`do $$ begin
  insert into messages (conversation, author, body) values ('kept', 'ada', 'x');
  begin insert into messages (conversation, author, body) values ('undone', 'ada', 'x'); raise exception ''; exception when others then null; end;
end $$`,
	`truncate messages`,
	`select pg_replication_origin_create('elsewhere'), pg_replication_origin_session_setup('elsewhere')`,
	`insert into messages (conversation, author, body) values ('origin', 'ada', 'x')`,
	`select pg_replication_origin_session_reset()`,
	`select pg_replication_origin_drop('elsewhere')`,
}

// recordStream runs SQL, and returns what a walsender sends of it.
func recordStream(t *testing.T, statements []string) [][]byte {
	t.Helper()
	url := testkit.Database(t)
	ctx := testkit.Context(t)
	require.NoError(t, testkit.Migrate(ctx, url))
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = setup.Apply(ctx, conn, testProgram(t), "freshet")
	require.NoError(t, err)

	config, err := pgconn.ParseConfig(url)
	require.NoError(t, err)
	config.RuntimeParams["replication"] = "database"
	repl, err := pgconn.ConnectConfig(ctx, config)
	require.NoError(t, err)
	defer repl.Close(ctx)
	made, err := pglogrepl.CreateReplicationSlot(ctx, repl, "recorded", "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true})
	require.NoError(t, err)
	from, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	require.NoError(t, err)
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	_, err = conn.Exec(ctx, `select pg_logical_emit_message(true, $1, 'the end')`, messageNudge)
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(ctx, repl, "recorded", from, pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: pluginArguments("freshet")}))
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var messages [][]byte
	for ended := false; !ended || messages[len(messages)-1][0] != 'C'; {
		msg, err := repl.ReceiveMessage(ctx)
		require.NoError(t, err)
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		m, err := pglogrepl.ParseXLogData(data.Data[1:])
		require.NoError(t, err)
		messages = append(messages, bytes.Clone(m.WALData))
		ended = ended || bytes.Contains(m.WALData, []byte("the end"))
	}
	return messages
}

// TestDecoder_F74_realStream: what a real walsender sends is understood, every
// kind of it; and cut off or damaged anywhere it never makes the decoder panic.
func TestDecoder_F74_realStream(t *testing.T) {
	messages := recordStream(t, everyKind)
	if *record {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(recording, frame(messages...), 0o644))
	}
	kinds := map[byte]int{}
	d := newDecoder(testProgram(t), new(enums), func() {})
	topics, floors := map[string]int{}, map[freshet.Pattern]int{}
	for _, m := range messages {
		kinds[m[0]]++
		tx, err := d.decode(m)
		require.NoErrorf(t, err, "%q", m)
		if tx != nil {
			for _, topic := range tx.topics {
				topics[topic]++
			}
			for _, floor := range tx.floors {
				floors[floor]++
			}
		}
	}
	for _, kind := range []byte("BCRIUDTMO") {
		require.NotZerof(t, kinds[kind], "no message of kind %q was recorded", kind)
	}
	for topic, want := range map[string]int{
		"conversations/a/messages": 3, "conversations/b/messages": 2, "reports/daily": 1, "conversations/c/messages": 1,
		"conversations/kept/messages": 1, "conversations/undone/messages": 0, "conversations/origin/messages": 1,
	} {
		require.Equal(t, want, topics[topic], topic)
	}
	for _, floor := range testProgram(t).Source("public", "messages").Floors() {
		require.Equal(t, 2, floors[floor], "a message for the source, and TRUNCATE")
	}

	for tx := range transactions(messages) {
		for i, m := range tx {
			for n := range m {
				damaged := bytes.Clone(m)
				damaged[n] ^= 0xff
				for _, spoilt := range [][]byte{m[:n], damaged} {
					d := newDecoder(testProgram(t), new(enums), func() {})
					for _, m := range slices.Concat(tx[:i], [][]byte{spoilt}, tx[i+1:]) {
						if _, err := d.decode(m); err != nil {
							break // refused, and the session would end
						}
					}
				}
			}
		}
	}
}
