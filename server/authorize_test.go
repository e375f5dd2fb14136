package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
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
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/intercept"
)

// accounts are the callers of these tests, as an issuer would describe them.
var accounts = map[string]map[string]any{
	"ada": {"sub": "ada", "scope": "openid messages", "conversations": []any{"one", "two"}},
	"bob": {"sub": "bob", "scope": "messages", "conversations": "one"},
	"eve": {"sub": "eve", "scope": "messages", "conversations": []any{"eve", "one/", "*", "-", "one%2F"}},
	"mod": {"sub": "mod", "role": "moderator"},
}

// granted is a node with the message service, behind grants and a middleware that
// knows callers by their names.
type granted struct {
	*bare
	path string // of the grants file
	h2   *http.Client
}

func startGranted(t *testing.T, database string) *granted {
	t.Helper()
	sample, err := os.ReadFile("messages/grants.yaml")
	require.NoError(t, err)
	g := &granted{path: filepath.Join(t.TempDir(), "grants.yaml")}
	g.write(t, string(sample))
	changed := make(chan struct{}, 1)
	file, err := grants.Open(g.path, grants.Options{Logger: testkit.Logger(t), OnChange: func() { changed <- struct{}{} }})
	require.NoError(t, err)
	g.bare = embedBehind(t, server.Config{
		DatabaseURL: database,
		Authorize:   server.Grants(file),
		Authenticate: func(r *http.Request) (server.Principal, error) {
			who := r.Header.Get("Test-User")
			return server.Principal{Subject: who, Claims: accounts[who]}, nil
		},
	}, intercept.RequestID)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() {
		_ = file.Run(ctx)
		done <- struct{}{}
	}()
	go func() {
		for {
			select {
			case <-changed:
				_ = g.node.Reauthorize(ctx)
			case <-ctx.Done():
				done <- struct{}{}
				return
			}
		}
	}()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	g.h2 = &http.Client{Transport: transport}
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
		transport.CloseIdleConnections()
	})
	g.live(t)
	return g
}

func (g *granted) write(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(g.path, []byte(text), 0o600))
}

// as is a client of one caller.
func (g *granted) as(who string, options ...connect.ClientOption) messagesv1connect.MessageServiceClient {
	options = append(options, connect.WithInterceptors(identity(who)))
	return messagesv1connect.NewMessageServiceClient(g.h2, g.url, options...)
}

// identity sends who calls, and always the same request id.
type identity string

func (i identity) set(h http.Header) {
	h.Set("Test-User", string(i))
	h.Set(intercept.HeaderRequestID, "1")
}

func (i identity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		i.set(req.Header())
		return next(ctx, req)
	}
}

func (i identity) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		i.set(conn.RequestHeader())
		return conn
	}
}

func (identity) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// send sends a plain request as somebody, and returns the response and its dump
// without the time of day.
func (g *granted) send(t *testing.T, who, method, target, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(g.ctx, method, g.url+target, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	identity(who).set(req.Header)
	resp, err := g.http.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, "a stream"
	}
	dump, err := httputil.DumpResponse(resp, true)
	require.NoError(t, err)
	return resp, regexp.MustCompile(`(?m)^Date: .*$`).ReplaceAllString(string(dump), "Date")
}

const service = "/messages.v1.MessageService/"

// getTarget is the URL of a read by GET.
func getTarget(t *testing.T, name string) string {
	t.Helper()
	message, err := json.Marshal(map[string]string{"name": name})
	require.NoError(t, err)
	return service + "GetMessage?connect=v1&encoding=json&message=" + url.QueryEscape(string(message))
}

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
	}
	for _, who := range []string{"eve", ""} {
		_, err = g.as(who).ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
		cerr := requireCode(t, connect.CodePermissionDenied, err)
		require.Empty(t, cerr.Meta().Get(intercept.HeaderCache))
		require.Empty(t, cerr.Meta().Get(intercept.HeaderRevision))
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

// F18: a grant is withdrawn while streams are open: those who had it are cut within a
// second and told nothing more, over each transport; others stay.
func TestAuthorize_F18_grantIsWithdrawn(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	const topic = "conversations/one/messages"
	events := func(who, throttle string, client *http.Client) (lines <-chan string) {
		req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, g.url+"/events?throttle="+throttle+"&topic="+topic, nil)
		require.NoError(t, err)
		identity(who).set(req.Header)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		told := make(chan string, 100)
		go func() {
			defer close(told)
			defer resp.Body.Close()
			scanner := bufio.NewScanner(resp.Body)
			for scanner.Scan() {
				if event, ok := strings.CutPrefix(scanner.Text(), "event: "); ok {
					told <- event
				}
			}
			if err := scanner.Err(); err != nil { // it didn't end in good order
				told <- err.Error()
			}
		}()
		require.Equal(t, "ready", receive(t, g.ctx, told))
		return told
	}
	// The throttle of what is to be cut doesn't hold that up.
	taken, h2, kept := events("bob", "10000", g.http), events("bob", "10000", g.h2), events("mod", "0", g.http)
	watch, err := freshetv1connect.NewInvalidationServiceClient(g.h2, g.url, connect.WithGRPC(), connect.WithInterceptors(identity("bob"))).
		Watch(g.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{topic}}))
	require.NoError(t, err)
	defer watch.Close()
	require.True(t, watch.Receive(), "ready")
	conn := testkit.Conn(t, g.bare.database)
	insert(t, g.ctx, conn, "one")
	for _, told := range []<-chan string{taken, h2, kept} {
		require.Equal(t, "invalidate", receive(t, g.ctx, told))
	}
	require.True(t, watch.Receive())

	began := time.Now()
	g.write(t, "rules: [{when: claims.role == 'moderator', read: ['**']}]")
	for _, told := range []<-chan string{taken, h2} {
		require.Equal(t, "end", receive(t, g.ctx, told))
		if event, more := <-told; more {
			require.Fail(t, "it was told "+event)
		}
	}
	require.False(t, watch.Receive())
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(watch.Err()))
	require.Less(t, time.Since(began), time.Second)
	insert(t, g.ctx, conn, "one")
	require.Equal(t, "invalidate", receive(t, g.ctx, kept))
	resp, _ := g.send(t, "bob", http.MethodGet, "/events?topic="+topic, "", nil)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	_, _ = io.Copy(io.Discard, resp.Body)
}
