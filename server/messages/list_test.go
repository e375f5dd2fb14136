package messages_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

func (f *fixture) list(parent, token string, size int32) (*messagesv1.ListMessagesResponse, error) {
	resp, err := f.client.ListMessages(f.ctx(), connect.NewRequest(&messagesv1.ListMessagesRequest{
		Parent: parent, PageToken: token, PageSize: size,
	}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func (f *fixture) conversations(token string, size int32) (*messagesv1.ListConversationsResponse, error) {
	resp, err := f.client.ListConversations(f.ctx(), connect.NewRequest(&messagesv1.ListConversationsRequest{
		PageToken: token, PageSize: size,
	}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

// bodies walks all pages.
func (f *fixture) bodies(parent string, size int32) (bodies []string) {
	f.t.Helper()
	for token := ""; ; {
		page, err := f.list(parent, token, size)
		require.NoError(f.t, err)
		require.LessOrEqual(f.t, len(page.GetMessages()), int(size))
		for _, m := range page.GetMessages() {
			bodies = append(bodies, m.GetBody())
		}
		if token = page.GetNextPageToken(); token == "" {
			return bodies
		}
		require.Len(f.t, page.GetMessages(), int(size))
	}
}

// Pages come newest first, also where several messages have one time and ids
// that don't ascend, and hold each message once.
func TestService_listPages(t *testing.T) {
	t.Parallel()
	f := serve(t)
	testkit.Exec(t, f.url, `
		insert into messages (id, conversation, author, body, create_time)
		select gen_random_uuid(), (i % 2)::text, 'ann', i::text, '2026-01-01'::timestamptz + i / 4 * interval '1 microsecond'
		from generate_series(0, 29) as i`)
	want := func(where string) (bodies []string) {
		rows, err := testkit.Conn(t, f.url).Query(f.ctx(), "select body from messages where "+where+" order by create_time desc, id desc")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var body string
			require.NoError(t, rows.Scan(&body))
			bodies = append(bodies, body)
		}
		return bodies
	}
	for _, size := range []int32{1, 3, 5, 15, 30, 1000} {
		require.Equal(t, want("true"), f.bodies("conversations/-", size))
		require.Equal(t, want("conversation = '1'"), f.bodies("conversations/1", size))
	}
	require.Empty(t, f.bodies("conversations/none", 10))
}

// A page goes on where the one before ended, whatever was written or removed
// meanwhile, the key's own row included.
func TestService_listIsStable(t *testing.T) {
	t.Parallel()
	f := serve(t)
	var all []*messagesv1.Message
	for i := range 4 {
		all = append(all, f.create("7", strconv.Itoa(i)))
	}
	first, err := f.list("conversations/7", "", 2)
	require.NoError(t, err)
	f.create("7", "newer")
	require.NoError(t, f.delete(all[2].GetName(), ""))
	second, err := f.list("conversations/7", first.GetNextPageToken(), 2)
	require.NoError(t, err)
	require.Len(t, second.GetMessages(), 2)
	require.Equal(t, "1", second.GetMessages()[0].GetBody())
	require.Empty(t, second.GetNextPageToken())
}

// F66: a page ends before it grows beyond what every gRPC client takes; its
// size is a maximum.
func TestService_F66_pagesAreCutByBytes(t *testing.T) {
	t.Parallel()
	f := serve(t, connect.WithReadMaxBytes(4<<20))
	testkit.Exec(t, f.url, `
		insert into messages (conversation, author, body)
		select '7', 'ann', i || repeat('é', 16380) from generate_series(100, 399) as i`)
	for _, parent := range []string{"conversations/7", "conversations/-"} {
		seen, pages := map[string]bool{}, 0
		for token := ""; ; pages++ {
			page, err := f.list(parent, token, 1000)
			require.NoError(t, err)
			require.LessOrEqual(t, proto.Size(page), 1<<20)
			for _, m := range page.GetMessages() {
				require.False(t, seen[m.GetName()], "twice")
				seen[m.GetName()] = true
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
			require.Len(t, page.GetMessages(), 31, "as many as fit")
		}
		require.Len(t, seen, 300)
		require.Equal(t, 9, pages)
	}
	page, err := f.list("conversations/7", "", 10)
	require.NoError(t, err)
	require.Len(t, page.GetMessages(), 10)
	require.NotEmpty(t, page.GetNextPageToken())
}

func TestService_defaultPageSize(t *testing.T) {
	t.Parallel()
	f := serve(t)
	testkit.Exec(t, f.url, "insert into messages (conversation, author, body) select 'c' || i, 'ann', 'hi' from generate_series(1, 51) as i")
	list, err := f.list("conversations/-", "", 0)
	require.NoError(t, err)
	require.Len(t, list.GetMessages(), 50)
	require.NotEmpty(t, list.GetNextPageToken())
	conversations, err := f.conversations("", 0)
	require.NoError(t, err)
	require.Len(t, conversations.GetConversations(), 50)
	require.NotEmpty(t, conversations.GetNextPageToken())
}

func TestService_listConversations(t *testing.T) {
	t.Parallel()
	f := serve(t)
	none, err := f.conversations("", 10)
	require.NoError(t, err)
	require.Empty(t, none.GetConversations())

	testkit.Exec(t, f.url, `
		insert into messages (conversation, author, body, create_time)
		select name, 'ann', 'hi', '2026-01-01'::timestamptz + i * interval '1 hour'
		from unnest(array['b', 'a-c', '10', '9', 'a', 'ab']) with ordinality as c (name, count), generate_series(1, count) as i`)
	want := []string{"conversations/10 3", "conversations/9 4", "conversations/a 5", "conversations/a-c 2", "conversations/ab 6", "conversations/b 1"}
	for _, size := range []int32{1, 2, 3, 6, 100} {
		var got []string
		for token := ""; ; {
			page, err := f.conversations(token, size)
			require.NoError(t, err)
			for _, c := range page.GetConversations() {
				got = append(got, fmt.Sprint(c.GetName(), " ", c.GetMessageCount()))
				last := time.Date(2026, 1, 1, int(c.GetMessageCount()), 0, 0, 0, time.UTC)
				require.Equal(t, last, c.GetLastMessageTime().AsTime())
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
			require.Len(t, page.GetConversations(), int(size))
		}
		require.Equal(t, want, got, "by bytes, whatever the locale")
	}
}

// A page token is of one list and one version, and can't be made up.
func TestService_badPageTokens(t *testing.T) {
	t.Parallel()
	f := serve(t)
	for i := range 3 {
		f.create("7", strconv.Itoa(i))
		f.create("8", strconv.Itoa(i))
	}
	seven, err := f.list("conversations/7", "", 1)
	require.NoError(t, err)
	names, err := f.conversations("", 1)
	require.NoError(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(seven.GetNextPageToken())
	require.NoError(t, err)
	altered := func(change func(b []byte) []byte) string {
		return base64.RawURLEncoding.EncodeToString(change(append([]byte(nil), raw...)))
	}
	tokens := map[string]string{
		"not base64":       "!",
		"padded":           seven.GetNextPageToken() + "=",
		"too short":        "AQ",
		"another version":  altered(func(b []byte) []byte { b[0]++; return b }),
		"shortened":        altered(func(b []byte) []byte { return b[:len(b)-1] }),
		"lengthened":       altered(func(b []byte) []byte { return append(b, 0) }),
		"impossible time":  altered(func(b []byte) []byte { b[9] ^= 0x40; return b }),
		"of conversations": names.GetNextPageToken(),
	}
	for what, token := range tokens {
		_, err := f.list("conversations/7", token, 1)
		require.Error(t, err, what)
		requireField(t, "page_token", err)
	}
	for _, parent := range []string{"conversations/8", "conversations/-"} {
		_, err := f.list(parent, seven.GetNextPageToken(), 1)
		requireField(t, "page_token", err)
	}
	_, err = f.conversations(seven.GetNextPageToken(), 1)
	requireField(t, "page_token", err)
}

// Reads may be GET requests.
func TestService_get(t *testing.T) {
	t.Parallel()
	var methods []string
	f := serve(t, connect.WithHTTPGet(), connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			resp, err := next(ctx, req)
			methods = append(methods, req.HTTPMethod())
			return resp, err
		}
	})))
	m := f.create("7", "hi")
	_, err := f.get(m.GetName())
	require.NoError(t, err)
	_, err = f.list("conversations/7", "", 0)
	require.NoError(t, err)
	_, err = f.conversations("", 0)
	require.NoError(t, err)
	require.Equal(t, []string{http.MethodPost, http.MethodGet, http.MethodGet, http.MethodGet}, methods)
}
