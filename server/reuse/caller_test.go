package reuse

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// F24, G8: whatever a scope leaves out, callers whose claims give a read other topics
// share neither queries nor answers, and each answer is judged by the topics that it
// depends on.
func TestReads_F24_callersOfOneScope(t *testing.T) {
	program, err := contract.Compile(testkit.Declared(t, testkit.MessageService(), func(method string, reads *freshetv1.Reads) {
		if method == "GetMessage" {
			reads.Topics, reads.Shared = []string{"conversations/{principal.org}/messages"}, false
		}
	}))
	require.NoError(t, err)
	r := newRig(t, nil)
	get := program.Method(messagesv1connect.MessageServiceGetMessageProcedure)
	as := func(org string) {
		r.method, err = get.For(map[string]any{"org": org})
		require.NoError(t, err)
	}
	q := r.queries()
	as("acme")
	first := r.read(t.Context(), "one", at(100))
	require.Equal(t, int64(1), waitFor(t, q.began, "the query of acme"))
	as("globex")
	second := r.read(t.Context(), "one", at(100))
	require.Equal(t, int64(2), waitFor(t, q.began, "the query of globex, while the other one runs"))
	close(q.release)
	bodies := []string{waitFor(t, first, "acme's answer").body, waitFor(t, second, "globex's").body}
	require.ElementsMatch(t, []string{"1", "2"}, bodies)

	// A change of one says nothing of what is kept of the other.
	r.hub.Publish(freshet.Commit{Revision: at(110), Topics: []string{"conversations/acme/messages"}})
	r.hub.Serve(at(110))
	o := waitFor(t, r.read(t.Context(), "one", at(110)), "a read")
	require.Equal(t, Hit, o.from, "globex")
	require.Equal(t, bodies[1], o.body)
	as("acme")
	o = waitFor(t, r.read(t.Context(), "one", at(110)), "a read")
	require.Equal(t, Miss, o.from)
	require.Equal(t, "3", o.body)
}
