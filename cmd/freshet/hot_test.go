package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// follow keeps one query fresh until the test ends, and tells of its first answer.
func follow[Req, Res any](t *testing.T, c *client.Client, read func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), request *Req) *client.Query[Req, Res] {
	t.Helper()
	query, err := client.NewQuery(c, read, request)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(testkit.Context(t))
	var running sync.WaitGroup
	running.Go(func() { _ = query.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for s := range query.Changes(ctx) {
		if s.Fresh {
			break
		}
	}
	return query
}

// A list whose rows are edited is hot, and each refetch shows it. The overview, which
// depends on a topic of the whole table, is read again each time, and says the same. A
// list where nothing happens costs nothing.
func TestDoctorHot(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	admin := listener.Addr().String()
	require.NoError(t, listener.Close())
	database := testkit.Migrated(t)
	p := startProgram(t, "--admin-addr="+admin, "--database-url="+database, "--throttle=0", "--read-interval=0")
	ctx, conn := testkit.Context(t), testkit.Conn(t, database)
	_, err = conn.Exec(ctx, "insert into messages (conversation, author, body) values ('7', 'a', '0'), ('9', 'a', '0')")
	require.NoError(t, err)

	c, err := client.New(p.url)
	require.NoError(t, err)
	service := messagesv1connect.NewMessageServiceClient(http.DefaultClient, p.url, connect.WithInterceptors(client.NewInterceptor()))
	hot := follow(t, c, service.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/7"})
	follow(t, c, service.ListMessages, &messagesv1.ListMessagesRequest{Parent: "conversations/9"})
	for range 2 {
		follow(t, c, service.ListConversations, new(messagesv1.ListConversationsRequest))
	}

	measured, done := context.WithCancel(ctx)
	var code int
	var stdout, stderr string
	go func() {
		defer done()
		code, stdout, stderr = runs(t, "doctor", "--hot", "--url=http://"+admin, "--for=2s")
	}()
	for edit := 1; measured.Err() == nil; edit++ {
		_, err := conn.Exec(ctx, "update messages set body = $1 where conversation = '7'", strconv.Itoa(edit))
		require.NoError(t, err)
		for s := range hot.Changes(measured) {
			if s.Value != nil && s.Value.GetMessages()[0].GetBody() == strconv.Itoa(edit) {
				break
			}
		}
	}
	require.Equal(t, exitOK, code, stdout+stderr)
	t.Log(stdout)
	row := func(topic string) []string {
		return regexp.MustCompile(`(?m)^ *(\d+) +(\d+) +(\d+) +(\d+) +(\d+)(?: \((\d+) %\))? +(\d+) +` + regexp.QuoteMeta(topic) + "$").FindStringSubmatch(stdout)
	}
	wide, narrow := row("messages"), row("conversations/7/messages")
	require.NotNil(t, wide)
	require.NotNil(t, narrow)
	require.Equal(t, "100", wide[6], "the overview is the same each time")
	require.Equal(t, "0", narrow[5], "the list never is")
	require.NotEqual(t, "0", narrow[4])
	require.Nil(t, row("conversations/9/messages"), "nothing has happened there")
	require.Regexp(t, `(?m)^messages: \d+ of \d+ refetches found nothing new`, stdout)
	require.Contains(t, stdout, "    told by rows of public.messages: messages\n")
}

func TestDoctorHot_refusals(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusNotFound:     "--admin-addr, or where a service of your own mounts /hot",
		http.StatusUnauthorized: "--token-file",
		http.StatusForbidden:    "admin: true",
		http.StatusOK:           "no measurement",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hot" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			w.WriteHeader(status)
		}))
		defer server.Close()
		code, _, stderr := runs(t, "doctor", "--hot", "--url", server.URL, "--for=1ms")
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, want)
	}
	for _, args := range []string{"--hot", "--hot --url=127.0.0.1:9090", "--hot --url=http://127.0.0.1:1 --for=0s"} {
		code, _, stderr := runs(t, append([]string{"doctor"}, strings.Fields(args)...)...)
		require.NotEqual(t, exitOK, code, args)
		require.NotEmpty(t, stderr)
	}
	code, _, stderr := runs(t, "doctor", "--hot", "--url=http://127.0.0.1:1")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--admin-addr")
}
