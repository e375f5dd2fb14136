package check_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// scripted answers reads of one message with the stamps that it is given.
type scripted struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	stamps chan freshet.Revision
}

func (s scripted) GetMessage(context.Context, *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	answer := connect.NewResponse(&messagesv1.GetMessageResponse{Message: &messagesv1.Message{Name: "conversations/a/messages/id-5", Body: "r5@1"}})
	answer.Header().Set("Freshet-Revision", (<-s.stamps).String())
	return answer, nil
}

// A client leaves a row and comes back to it, with a stream of a node that is behind: it
// asks for no less than it was ever told (rule 3), and what it shows first has nothing to
// replace. What it goes on showing has.
func TestSubject_G4_comesBackToARow(t *testing.T) {
	at := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: p} }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stamps := make(chan freshet.Revision, 2)
	stamps <- at(25) // of a node that is ahead of the stream's
	stamps <- at(20)
	mux := http.NewServeMux()
	mux.Handle(messagesv1connect.NewMessageServiceHandler(scripted{stamps: stamps}))
	server := httptest.NewServer(mux)
	defer server.Close()

	h := check.ComeBack(ctx, workload.Messages(), server.Client(), server.URL, at(10), at(20), at(15))
	require.Len(t, h.Reads, 2)
	for i, asked := range []freshet.Revision{at(10), at(20)} {
		r := h.Reads[i]
		require.Equal(t, asked, r.AtLeast)
		require.True(t, r.Kept)
		require.True(t, r.First)
		require.Equal(t, h.Reads[0].Topic, r.Topic)
	}
	require.Zero(t, verdict(t, h, "G4").Violations)
	h.Reads[1].First = false // had the first been on show all the time
	require.Equal(t, 1, verdict(t, h, "G4").Violations)
}

// G3: a stream that is opened for one query's sake loses nothing for another that has the
// same topic, be the answer of the one ahead of what the other was told; and what a
// stream was to tell that never got ready, the next one is to tell.
func TestSubject_G3_opensAnotherStream(t *testing.T) {
	at := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: p} }
	for name, c := range map[string]struct {
		both     bool
		answered freshet.Revision
		want     [3]freshet.Revision
	}{
		"the answer is older":              {answered: at(50), want: [3]freshet.Revision{at(50), at(50), {}}},
		"older, and the row is followed":   {both: true, answered: at(50), want: [3]freshet.Revision{at(50), at(50), {}}},
		"the answer is younger":            {answered: at(150), want: [3]freshet.Revision{at(150), at(150), {}}},
		"younger, and the row is followed": {both: true, answered: at(150)},
	} {
		require.Equal(t, c.want, check.Reopen(workload.Messages(), c.both, at(100), c.answered), name)
	}
}
