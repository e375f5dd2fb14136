package intercept

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// always tells of one change, whatever is asked.
type always struct{ freshet.Change }

func (a always) Of([]string, freshet.Revision) (freshet.Change, bool) { return a.Change, true }

// What was changed goes with an answer: of a read that has asked at-least a revision,
// and was not denied.
func TestExplain_onAnswersAlone(t *testing.T) {
	read := messageService().Method(messagesv1connect.MessageServiceListMessagesProcedure)
	write := messageService().Method(messagesv1connect.MessageServiceCreateMessageProcedure)
	answered := func(_ context.Context, c *call) (connect.AnyResponse, error) {
		c.reply.stamp = at(100)
		return nil, nil
	}
	for name, c := range map[string]struct {
		call call
		next handler
		want bool
	}{
		"an answer":           {call{method: read, atLeast: at(90)}, answered, true},
		"a strong read":       {call{method: read}, answered, false},
		"a write":             {call{method: write, atLeast: at(90)}, answered, false},
		"not in the contract": {call{atLeast: at(90)}, answered, false},
		"denied": {call{method: read, atLeast: at(90)}, func(_ context.Context, c *call) (connect.AnyResponse, error) {
			c.reply = reply{} // as authorizeAnswer does
			return nil, errors.New("denied")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.call.req = connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"})
			_, _ = explain(always{freshet.Change{What: freshet.Inserted}}, nil)(c.next)(t.Context(), &c.call)
			header := http.Header{}
			c.call.reply.write(header)
			require.Equal(t, c.want, header.Get(HeaderCause) != "")
		})
	}
	// The stamp is taken back where an error says nothing about data.
	header := http.Header{}
	(&reply{cause: "change=insert"}).write(header)
	require.Empty(t, header)
}

func TestEncodeCause(t *testing.T) {
	for want, change := range map[string]freshet.Change{
		"change=unknown": {What: freshet.Unknown},
		`change=update, topic="caf%C3%A9s/7%22%2C", table="public.Order%20Items", rows=3, revision="00000007-0000000000000064", xid=9, time="2026-11-27T10:54:00.123Z"`: {
			What: freshet.Updated, Topic: `cafés/7",`, Table: "public.Order Items", Rows: 3, Revision: freshet.Revision{Epoch: 7, Position: 100},
			XID: 9, Time: time.Date(2026, 11, 27, 10, 54, 0, 123e6, time.UTC),
		},
		`change=truncate, pattern="a%20b/*/c/**"`: {What: freshet.Truncated, Pattern: "a b/*/c/**"},
	} {
		require.Equal(t, want, encodeCause(change))
	}
}
