package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

func TestRun_sixRPCsOverEveryProtocolOnOnePort(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	h1 := &http.Client{Transport: new(http.Transport)}
	t.Cleanup(h1.CloseIdleConnections)
	for _, tt := range []struct {
		name    string
		http    *http.Client
		options []connect.ClientOption
	}{
		{"connect", r.http, nil},
		{"connect-h1", h1, nil},
		{"connect-json", r.http, []connect.ClientOption{connect.WithProtoJSON()}},
		{"connect-json-get", r.http, []connect.ClientOption{connect.WithProtoJSON(), connect.WithHTTPGet()}},
		{"grpc", r.http, []connect.ClientOption{connect.WithGRPC()}},
		{"grpc-json", r.http, []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}},
		{"grpc-web", r.http, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"grpc-web-h1", h1, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sixRPCs(t, r.ctx, messagesv1connect.NewMessageServiceClient(tt.http, r.url, tt.options...), "conversations/"+tt.name)
		})
	}
}

func sixRPCs(t *testing.T, ctx context.Context, c messagesv1connect.MessageServiceClient, parent string) {
	created, err := c.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: parent, Message: &messagesv1.Message{Author: "ada", Body: "hi"},
	}))
	require.NoError(t, err)
	name, rev := created.Msg.GetMessage().GetName(), stamp(t, created.Header())
	require.ElementsMatch(t, []string{"messages", "conversations/-/messages", parent + "/messages", name},
		strings.Split(created.Header().Get(intercept.HeaderTopics), ","))

	got, err := c.GetMessage(ctx, request(&messagesv1.GetMessageRequest{Name: name}, rev))
	require.NoError(t, err)
	require.Equal(t, "hi", got.Msg.GetMessage().GetBody())
	require.False(t, stamp(t, got.Header()).Less(rev))

	updated, err := c.UpdateMessage(ctx, connect.NewRequest(&messagesv1.UpdateMessageRequest{
		Message: &messagesv1.Message{Name: name, Body: "ho", Etag: got.Msg.GetMessage().GetEtag()},
	}))
	require.NoError(t, err)
	later := stamp(t, updated.Header())
	require.True(t, rev.Less(later))

	list, err := c.ListMessages(ctx, request(&messagesv1.ListMessagesRequest{Parent: parent}, later))
	require.NoError(t, err)
	require.Len(t, list.Msg.GetMessages(), 1)
	require.Equal(t, "ho", list.Msg.GetMessages()[0].GetBody())

	conversations, err := c.ListConversations(ctx, request(new(messagesv1.ListConversationsRequest), later))
	require.NoError(t, err)
	var names []string
	for _, conversation := range conversations.Msg.GetConversations() {
		names = append(names, conversation.GetName())
	}
	require.Contains(t, names, parent)

	deleted, err := c.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name}))
	require.NoError(t, err)
	rev = stamp(t, deleted.Header())
	_, err = c.GetMessage(ctx, request(&messagesv1.GetMessageRequest{Name: name}, rev))
	require.False(t, errorStamp(t, connect.CodeNotFound, err).Less(rev))
}

// G1: each of 1,000 writes by SQL is told, and the read at-least what was told
// contains it.
func TestRun_sqlWritesAreToldAndRead(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, nil)
	events := r.follow(t, "conversations/7/messages")
	conn := testkit.Conn(t, database)
	c := r.client()
	last := freshet.Revision{}
	for range 1000 {
		name := insert(t, r.ctx, conn, "7")
		e := receive(t, r.ctx, events)
		require.Equal(t, []string{"conversations/7/messages"}, e.Topics)
		require.True(t, last.Less(e.Revision))
		last = e.Revision
		list, err := c.ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/7", PageSize: 1}, e.Revision))
		require.NoError(t, err)
		require.Equal(t, name, list.Msg.GetMessages()[0].GetName())
		require.False(t, stamp(t, list.Header()).Less(e.Revision))
	}
}

// G5: every own write is read back at-least its stamp, while others write.
func TestRun_ownWritesAreReadBack(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	c := r.client()
	var writers sync.WaitGroup
	failed := make(chan error, 8)
	for range 8 {
		writers.Go(func() {
			failed <- readBack(r.ctx, c, 50)
		})
	}
	writers.Wait()
	for range 8 {
		require.NoError(t, <-failed)
	}
}

func readBack(ctx context.Context, c messagesv1connect.MessageServiceClient, times int) error {
	for range times {
		created, err := c.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/busy", Message: &messagesv1.Message{Author: "ada", Body: "hi"},
		}))
		if err != nil {
			return err
		}
		rev, err := freshet.ParseRevision(created.Header().Get(intercept.HeaderRevision))
		if err != nil {
			return err
		}
		if _, err := c.GetMessage(ctx, request(&messagesv1.GetMessageRequest{Name: created.Msg.GetMessage().GetName()}, rev)); err != nil {
			return err
		}
		if created.Header().Get(intercept.HeaderTopics) == "" {
			return errors.New("a settled write has no topics")
		}
	}
	return nil
}

// G7: after a write, readers at-least its revision cause one query in all, and
// later ones none. (The answers say where they come from.)
func TestRun_readersShareOneQuery(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, nil)
	events := r.follow(t, "messages")
	c := r.client()
	conn := testkit.Conn(t, database)
	for range 5 {
		name := insert(t, r.ctx, conn, "7")
		rev := receive(t, r.ctx, events).Revision
		type answer struct{ name, cache string }
		answers := make(chan answer, 200)
		for range cap(answers) {
			go func() {
				list, err := c.ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/-"}, rev))
				if err != nil {
					answers <- answer{name: err.Error()}
					return
				}
				answers <- answer{list.Msg.GetMessages()[0].GetName(), list.Header().Get(intercept.HeaderCache)}
			}()
		}
		queries := 0
		for range cap(answers) {
			a := receive(t, r.ctx, answers)
			require.Equal(t, name, a.name)
			if a.cache == "miss" {
				queries++
			}
		}
		require.Equal(t, 1, queries)
	}
}

// F23: forged and foreign revisions are refused at once, and hold no
// connection: the pool has but one.
func TestRun_forgedRevisionsAreRefusedAtOnce(t *testing.T) {
	r := start(t, testkit.Migrated(t), func(c *live.Config) { c.MaxConns = 1 })
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second) // half of MaxWait
	defer cancel()
	c := r.client()
	list, err := c.ListMessages(ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/-"}, freshet.Revision{}))
	require.NoError(t, err)
	now := stamp(t, list.Header())
	get := func(text string) error {
		req := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/-"})
		req.Header().Set(intercept.HeaderAtLeast, text)
		_, err := c.ListMessages(ctx, req)
		return err
	}
	for range 20 {
		requireCode(t, connect.CodeInvalidArgument, get("garbage"))
		requireCode(t, connect.CodeInvalidArgument, get(freshet.Revision{Epoch: now.Epoch, Position: 1 << 62}.String()))
		requireCode(t, connect.CodeFailedPrecondition, get(freshet.Revision{Epoch: now.Epoch - 1, Position: 1}.String()))
		requireCode(t, connect.CodeUnavailable, get(freshet.Revision{Epoch: now.Epoch + 1, Position: 1}.String()))
	}
	require.NoError(t, get(now.String()))
}

// F25: a mutation that changes nothing is answered at once, not after
// MaxSettle; and so is one that changed what nobody subscribes to.
func TestRun_mutationsWithoutAChangeAreAnsweredAtOnce(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, nil)
	ctx, cancel := context.WithTimeout(r.ctx, 15*time.Second) // less than MaxSettle
	defer cancel()
	c := r.client()
	name := insert(t, ctx, testkit.Conn(t, database), "7")
	for range 20 {
		_, err := c.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{
			Name: "conversations/7/messages/01890a5d-ac96-774b-bcce-b302099a8057",
		}))
		require.False(t, errorStamp(t, connect.CodeNotFound, err).IsZero())

		_, err = c.UpdateMessage(ctx, connect.NewRequest(&messagesv1.UpdateMessageRequest{
			Message: &messagesv1.Message{Name: name, Body: "ho", Etag: "another"},
		}))
		rev := errorStamp(t, connect.CodeAborted, err)
		// F46: what it saw is in a read at-least its stamp.
		_, err = c.GetMessage(ctx, request(&messagesv1.GetMessageRequest{Name: name}, rev))
		require.NoError(t, err)
	}
}

func TestRun_errorsLeakNothing(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, nil)
	testkit.Exec(t, database, `alter table messages rename column body to body_of_secrets`)
	post := func(procedure, contentType, body string) (int, string) {
		resp, err := r.http.Post(r.url+procedure, contentType, strings.NewReader(body))
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NotEmpty(t, resp.Header.Get(intercept.HeaderRequestID))
		for _, leak := range []string{"SQLSTATE", "select", "body_of_secrets", "pgx", "*messagesv1", "goroutine", ".go:"} {
			require.NotContains(t, string(text), leak)
		}
		return resp.StatusCode, string(text)
	}
	code, text := post(messagesv1connect.MessageServiceListMessagesProcedure, "application/json", `{"parent":"conversations/-"}`)
	require.Equal(t, http.StatusInternalServerError, code)
	require.JSONEq(t, `{"code":"internal","message":"internal error"}`, text)

	code, text = post(messagesv1connect.MessageServiceListMessagesProcedure, "application/json", `{"parent":7}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, text, "messages.v1.ListMessagesRequest")

	code, text = post("/messages.v1.MessageService/DropEverything", "application/json", `{}`)
	require.Equal(t, http.StatusNotImplemented, code)
	require.Contains(t, text, `"unimplemented"`)

	code, _ = post(messagesv1connect.MessageServiceListMessagesProcedure, "application/json", `{"parent":"`+strings.Repeat("x", 5<<20)+`"}`)
	require.Equal(t, http.StatusTooManyRequests, code, "resource_exhausted: larger than --max-request-bytes")
}

// F69: /readyz says on the main port whether, and in a word why not; what it
// waits for is told on the admin port.
func TestRun_readyzSaysWhy(t *testing.T) {
	database := testkit.Migrated(t)
	first := start(t, database, nil)
	ask := func(r *running, url, accept string) (int, string) {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, url+"/readyz", nil)
		require.NoError(t, err)
		req.Header.Set("Accept", accept)
		resp, err := r.http.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	code, text := ask(first, first.url, "*/*")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ready\n", text)

	// A second node serves beside it; while its slot's name is taken by something else
	// it isn't ready, and says why only where that is nobody else's to read.
	slot := "taken_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	testkit.Exec(t, database, `select pg_create_physical_replication_slot($1)`, slot)
	addr, adminAddr := live.FreeAddr(t), live.FreeAddr(t)
	second, ready, _ := launch(t, database, func(c *live.Config) { c.Front.Addr, c.Front.AdminAddr, c.Slot = addr, adminAddr, slot })
	second.url = "http://" + addr
	admin := "http://" + adminAddr
	require.Eventually(t, func() bool {
		_, text := ask(second, admin, "*/*")
		return strings.HasPrefix(text, "not ready: capture: ") && strings.Contains(text, slot)
	}, 20*time.Second, 10*time.Millisecond)
	code, text = ask(second, second.url, "application/json")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.JSONEq(t, `{"ready":false,"reason":"capture"}`, text)
	code, text = ask(second, second.url, "*/*")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "not ready: capture\n", text)
	_, text = ask(second, admin, "application/json")
	require.Contains(t, text, `{"ready":false,"reason":"capture","detail":"`)
	require.Contains(t, text, slot)

	testkit.Exec(t, database, `select pg_drop_replication_slot($1)`, slot)
	require.Equal(t, second.url, receive(t, second.ctx, ready))
	for _, n := range []*running{first, second} {
		code, _ = ask(n, n.url, "*/*")
		require.Equal(t, http.StatusOK, code)
	}
}

func TestRun_shutdownEndsStreamsAndReturns(t *testing.T) {
	r := start(t, testkit.Migrated(t), nil)
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url+"/events?topic=messages", nil)
	require.NoError(t, err)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)

	began := time.Now()
	require.NoError(t, r.stop())
	require.Less(t, time.Since(began), 10*time.Second, "less than Drain: nobody was waited for in vain")
	_, err = io.ReadAll(resp.Body)
	require.NoError(t, err, "a clean end, not a cut connection")
	_, err = http.Get(r.url + "/healthz") //nolint:noctx // refused at once
	require.Error(t, err)
}
