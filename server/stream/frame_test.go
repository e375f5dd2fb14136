package stream

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func at(position uint64) freshet.Revision { return freshet.Revision{Epoch: 7, Position: position} }

// sseEvent is what a WHATWG-conform parser dispatches.
type sseEvent struct {
	kind, data, lastID string
	hasID              bool // an id field was in this very block
	retry              int  // of this block; 0: none
}

// sseParser is the "event stream interpretation" of the HTML standard, section
// 9.2.6, word for word, with CR, LF and CRLF as line ends. feed takes a
// line without its end.
type sseParser struct {
	data, kind, id string
	hasID          bool
	retry          int
	lastID         string
}

func (p *sseParser) feed(line string) (event sseEvent, dispatched bool) {
	if line == "" {
		p.lastID = p.id
		event = sseEvent{kind: p.kind, data: strings.TrimSuffix(p.data, "\n"), lastID: p.lastID, hasID: p.hasID, retry: p.retry}
		dispatched = p.data != ""
		p.data, p.kind, p.hasID, p.retry = "", "", false, 0
		return event, dispatched
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		p.kind = value
	case "data":
		p.data += value + "\n"
	case "id":
		if !strings.Contains(value, "\x00") {
			p.id, p.hasID = value, true
		}
	case "retry":
		if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
			p.retry = int(ms)
		}
	}
	return sseEvent{}, false
}

func parseSSE(raw []byte) (events []sseEvent) {
	text := strings.TrimPrefix(strings.ToValidUTF8(string(raw), "\ufffd"), "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var p sseParser
	for _, line := range lines[:len(lines)-1] { // an unfinished line is dropped
		if e, ok := p.feed(line); ok {
			events = append(events, e)
		}
	}
	return events
}

type payload struct {
	Revision    string   `json:"revision"`
	Topics      any      `json:"topics"`
	SpreadMS    *int     `json:"spread_ms"`
	HeartbeatMS int      `json:"heartbeat_ms"`
	Contract    string   `json:"contract"`
	Reason      string   `json:"reason"`
	LagMS       *int64   `json:"lag_ms"`
	list        []string // Topics as a list
}

func decode(t testing.TB, e sseEvent) payload {
	t.Helper()
	var p payload
	d := json.NewDecoder(strings.NewReader(e.data))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&p), e.data)
	if list, ok := p.Topics.([]any); ok {
		for _, topic := range list {
			p.list = append(p.list, topic.(string))
		}
	}
	return p
}

func TestFrames_onTheWire(t *testing.T) {
	id := at(0x1f).String()
	frame, rest := appendInvalidate(nil, at(0x1f), []string{"messages", `a"b\c<&>é` + "\u2028"}, false)
	require.Empty(t, rest)
	require.Equal(t, "id: "+id+"\nevent: invalidate\ndata: {\"revision\":\""+id+
		"\",\"topics\":[\"messages\",\"a\\\"b\\\\c<&>é\u2028\"],\"spread_ms\":0}\n\n", string(frame))
	require.Equal(t, "retry: 1500\nid: "+id+"\nevent: ready\ndata: {\"revision\":\""+id+
		"\",\"topics\":2,\"heartbeat_ms\":15000,\"contract\":\"abc\"}\n\n",
		string(appendReady(appendRetry(nil, 1500*time.Millisecond), at(0x1f), 2, 15*time.Second, 0, "abc")))
	require.Equal(t, "id: "+id+"\nevent: ready\ndata: {\"revision\":\""+id+
		"\",\"topics\":2,\"heartbeat_ms\":15000,\"contract\":\"abc\",\"expires_ms\":1500}\n\n",
		string(appendReady(nil, at(0x1f), 2, 15*time.Second, 1500*time.Millisecond, "abc")))
	require.Equal(t, "retry: 1500\nevent: end\ndata: {\"reason\":\"expired\"}\n\n",
		string(appendEnd(appendRetry(nil, 1500*time.Millisecond), errExpired.reason)))
	require.Equal(t, "id: "+id+"\nevent: reset\ndata: {\"revision\":\""+id+"\",\"reason\":\"epoch\"}\n\n",
		string(appendReset(nil, at(0x1f))))
	require.Equal(t, "id: "+id+"\nevent: frontier\ndata: {\"revision\":\""+id+"\",\"lag_ms\":12}\n\n",
		string(appendFrontier(nil, at(0x1f), 12*time.Millisecond)))
}

func TestAppendInvalidate_splitsAndOnlyTheLastFrameHasTheID(t *testing.T) {
	for _, unit := range []string{"x", `"`, "é", "\x01", "\xff"} {
		topics := make([]string, 1000)
		for i := range topics {
			topics[i] = strings.Repeat(unit, freshet.MaxTopicBytes/len(unit)-4) + strconv.Itoa(i)
		}
		var got []string
		rest := topics
		for frames := 1; len(rest) > 0; frames++ {
			var frame []byte
			frame, rest = appendInvalidate(nil, at(5), rest, false)
			require.LessOrEqual(t, len(frame), maxFrame)
			events := parseSSE(frame)
			require.Len(t, events, 1)
			require.Equal(t, len(rest) == 0, events[0].hasID)
			p := decode(t, events[0])
			require.Equal(t, at(5).String(), p.Revision, "every part says the revision")
			got = append(got, p.list...)
			require.Less(t, frames, 200)
		}
		require.Len(t, got, len(topics))
		for i, topic := range topics {
			require.Equal(t, replaceInvalid(topic), got[i])
		}
	}
}

// replaceInvalid puts one U+FFFD for each byte that isn't UTF-8, as Go's JSON does.
func replaceInvalid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

func FuzzAppendInvalidate(f *testing.F) {
	f.Add("messages", "conversations/7/messages")
	f.Add("a\nid: 9", "b\r\n\r\nevent: reset\ndata: {}")
	f.Add("\x00\x1f\x7f\u0085\u2028", `"\/`)
	f.Add("\xff\xc0\x80", "\ufeff")
	f.Fuzz(func(t *testing.T, one, two string) {
		topics := []string{one, two}
		var raw []byte
		for rest := topics; len(rest) > 0; {
			raw, rest = appendInvalidate(raw, at(9), rest, false)
		}
		events := parseSSE(raw)
		var got []string
		for i, e := range events {
			require.Equal(t, "invalidate", e.kind)
			require.Equal(t, i == len(events)-1, e.hasID)
			got = append(got, decode(t, e).list...)
		}
		require.Equal(t, []string{replaceInvalid(one), replaceInvalid(two)}, got)
		require.Equal(t, len(events), bytes.Count(raw, []byte("\n\n")))
		require.NotContains(t, string(raw), "\r")
		require.True(t, utf8.Valid(raw))
		for _, s := range topics {
			require.GreaterOrEqual(t, jsonLen(s), len(appendJSON(nil, s)))
		}
	})
}
