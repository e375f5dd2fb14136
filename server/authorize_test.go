package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/intercept"
)

// F24: the same request at the same moment, while its query runs, when its answer is
// kept, and as a GET that may be answered 304: who has no grant gets nothing of it,
// and waits for nothing; those who have one share it.
func TestAuthorize_F24_sameRequestAtTheSameMoment(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	conn := testkit.Conn(t, g.bare.database)
	name := insert(t, g.ctx, conn, "one")
	first, err := g.as("ada").GetMessage(g.ctx, request(&messagesv1.GetMessageRequest{Name: name}, freshet.Revision{}))
	require.NoError(t, err)
	at := stamp(t, first.Header())

	// A query that runs: the table is locked meanwhile.
	_, err = conn.Exec(g.ctx, "begin; lock table messages in access exclusive mode")
	require.NoError(t, err)
	type answer struct {
		who string
		err error
	}
	answers := make(chan answer, 2)
	list := func(who string) {
		_, err := g.as(who).ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
		answers <- answer{who, err}
	}
	go list("ada")
	watcher := testkit.Conn(t, g.bare.database)
	require.Eventually(t, func() (waits bool) {
		return watcher.QueryRow(g.ctx, "select exists (select from pg_locks where relation = 'messages'::regclass and not granted)").Scan(&waits) == nil && waits
	}, 30*time.Second, 5*time.Millisecond, "ada's query doesn't run")
	go list("bob")
	for range 3 {
		_, err := g.as("eve").ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
		requireCode(t, connect.CodePermissionDenied, err) // though the query still runs
	}
	require.Empty(t, answers)
	_, err = conn.Exec(g.ctx, "rollback")
	require.NoError(t, err)
	for range 2 {
		a := receive(t, g.ctx, answers)
		require.NoError(t, a.err, a.who)
	}

	// A kept answer.
	for _, who := range []string{"ada", "bob", "mod"} {
		resp, err := g.as(who).ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
		require.NoError(t, err)
		require.Equal(t, "hit", resp.Header().Get(intercept.HeaderCache), "%s: shared among those who are granted", who)
		require.NotEmpty(t, resp.Header().Get(intercept.HeaderCause))
	}
	for _, who := range []string{"eve", ""} {
		_, err = g.as(who).ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
		cerr := requireCode(t, connect.CodePermissionDenied, err)
		require.Empty(t, cerr.Meta().Get(intercept.HeaderCache))
		require.Empty(t, cerr.Meta().Get(intercept.HeaderRevision))
		require.Empty(t, cerr.Meta().Get(intercept.HeaderCause))
	}

	// 304.
	target := getTarget(t, name)
	ok, _ := g.send(t, "ada", http.MethodGet, target, "", nil)
	require.Equal(t, http.StatusOK, ok.StatusCode)
	tag := ok.Header.Get("ETag")
	require.NotEmpty(t, tag)
	for who, want := range map[string]int{"bob": http.StatusNotModified, "eve": http.StatusForbidden, "": http.StatusForbidden} {
		for _, candidate := range []string{tag, "*"} {
			resp, dump := g.send(t, who, http.MethodGet, target, "", http.Header{"If-None-Match": {candidate}})
			require.Equal(t, want, resp.StatusCode, "%s: %s", who, dump)
			require.Equal(t, want == http.StatusForbidden, resp.Header.Get("ETag") == "", dump)
		}
	}
}

// Who has no grant can't tell a row, a conversation or a topic from one that isn't
// there: everything that comes back is the same, over each protocol (G8).
func TestAuthorize_noOracle(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	conn := testkit.Conn(t, g.bare.database)
	there := insert(t, g.ctx, conn, "one")
	absent := there[:len(there)-4] + "0000" // the same conversation
	other := strings.Replace(absent, "one", "ten", 1)
	names := []string{there, absent, other}
	head, err := g.as("mod").GetMessage(g.ctx, request(&messagesv1.GetMessageRequest{Name: there}, freshet.Revision{}))
	require.NoError(t, err, "it is there, and kept")
	at := stamp(t, head.Header())

	same := func(what string, answers ...string) {
		t.Helper()
		for _, a := range answers {
			require.Equal(t, answers[0], a, what)
		}
	}
	each := func(ask func(name string) string) (answers []string) {
		for _, name := range names {
			answers = append(answers, ask(name))
		}
		return answers
	}
	body := func(name string) string { return fmt.Sprintf(`{"name":%q}`, name) }
	for _, who := range []string{"eve", ""} {
		for _, header := range []http.Header{nil, {intercept.HeaderAtLeast: {at.String()}}, {intercept.HeaderAtLeast: {"ffffffff-ffffffffffffffff"}}} {
			answers := each(func(name string) string {
				resp, dump := g.send(t, who, http.MethodPost, service+"GetMessage", body(name), header)
				require.Equal(t, http.StatusForbidden, resp.StatusCode)
				return dump
			})
			same("POST", answers...)
			require.NotContains(t, strings.ToLower(answers[0]), "freshet-")
			answers = each(func(name string) string {
				_, dump := g.send(t, who, http.MethodGet, getTarget(t, name), "", header)
				return dump
			})
			same("GET", answers...)
			require.NotContains(t, strings.ToLower(answers[0]), "etag")
		}
		same("DeleteMessage", each(func(name string) string {
			_, dump := g.send(t, who, http.MethodPost, service+"DeleteMessage", body(name), nil)
			return dump
		})...)
		same("GET of the stream", each(func(name string) string {
			resp, dump := g.send(t, who, http.MethodGet, "/events?topic=conversations/eve/messages&topic="+url.QueryEscape(name), "", nil)
			require.Equal(t, http.StatusForbidden, resp.StatusCode)
			return dump
		})...)
		same("POST of the stream", each(func(name string) string {
			resp, dump := g.send(t, who, http.MethodPost, "/events", fmt.Sprintf(`{"topics":[%q],"since":"%s"}`, name, at), nil)
			require.Equal(t, http.StatusForbidden, resp.StatusCode)
			return dump
		})...)
		for protocol, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
			text := func(err error) string {
				cerr := requireCode(t, connect.CodePermissionDenied, err)
				meta := cerr.Meta().Clone()
				meta.Del("Date")
				return fmt.Sprint(cerr.Message(), cerr.Details(), meta)
			}
			same(protocol, each(func(name string) string {
				_, err := g.as(who, options...).GetMessage(g.ctx, request(&messagesv1.GetMessageRequest{Name: name}, at))
				return text(err)
			})...)
			watch := freshetv1connect.NewInvalidationServiceClient(g.h2, g.url, append(options, connect.WithInterceptors(identity(who)))...)
			same("Watch, "+protocol, each(func(name string) string {
				stream, err := watch.Watch(g.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{name}}))
				require.NoError(t, err)
				defer stream.Close()
				require.False(t, stream.Receive())
				return text(stream.Err())
			})...)
		}
	}
	var count int
	require.NoError(t, conn.QueryRow(g.ctx, "select count(*) from messages").Scan(&count))
	require.Equal(t, 1, count, "nobody has deleted it")

	// Within a grant, what isn't there is said to be so, as of a revision.
	_, err = g.as("bob").GetMessage(g.ctx, request(&messagesv1.GetMessageRequest{Name: absent}, at))
	errorStamp(t, connect.CodeNotFound, err)
	// Neither "any" nor what looks like a pattern comes with a claim.
	for _, parent := range []string{"conversations/-"} {
		_, err = g.as("eve").ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: parent}, freshet.Revision{}))
		requireCode(t, connect.CodePermissionDenied, err)
	}
	_, err = g.as("ada").ListConversations(g.ctx, request(new(messagesv1.ListConversationsRequest), freshet.Revision{}))
	requireCode(t, connect.CodePermissionDenied, err)
	_, err = g.as("mod").ListConversations(g.ctx, request(new(messagesv1.ListConversationsRequest), freshet.Revision{}))
	require.NoError(t, err)
}

// What a commit changed beyond what its caller may follow isn't in Freshet-Topics.
func TestAuthorize_topicsOfAMutation(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	testkit.Exec(t, g.bare.database, `
		create function copy() returns trigger language plpgsql as $$ begin
			insert into messages (conversation, author, body) values ('secret', 'trigger', new.body); return new; end $$;
		create trigger copy after insert on messages for each row when (new.conversation = 'one') execute function copy()`)
	create := func(who string) []string {
		resp, err := g.as(who).CreateMessage(g.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/one", Message: &messagesv1.Message{Author: who, Body: "hi"},
		}))
		require.NoError(t, err)
		id := resp.Msg.GetMessage().GetName()
		topics := strings.Split(resp.Header().Get(intercept.HeaderTopics), ",")
		require.Contains(t, topics, id)
		return slices.DeleteFunc(topics, func(s string) bool { return s == id })
	}
	require.Equal(t, []string{"conversations/one/messages"}, create("bob"))
	_, err := g.as("eve").CreateMessage(g.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/one", Message: &messagesv1.Message{Author: "eve", Body: "hi"},
	}))
	requireCode(t, connect.CodePermissionDenied, err)
}
