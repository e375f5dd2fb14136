package server_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// F52: by default the first executions of each procedure are audited. One that
// looks into a table which no source covers (here by a policy) is answered, and
// reported once: by log, metric and in the detail of readiness. From then on
// nothing of its procedure is kept, so that what changes untold is seen.
func TestRun_F52_sampledAudit(t *testing.T) {
	database := testkit.Migrated(t)
	require.NoError(t, start(t, database, nil).stop())
	admin := testkit.Conn(t, database)
	_, err := admin.Exec(testkit.Context(t), `
		create table shown (conversation text);
		create table written (conversation text);
		create function written() returns trigger language plpgsql as $$ begin insert into written values ('7'); return new; end $$;
		create trigger written after insert on messages for each row execute function written();
		alter table messages enable row level security;
		create policy shown on messages using (exists (select from shown where shown.conversation = messages.conversation));
		insert into messages (conversation, author, body) values ('7', 'ann', 'hi');
		do $$ begin
			if not exists (select from pg_roles where rolname = 'audited') then create role audited login; end if;
		end $$;
		grant usage on schema freshet to audited;
		grant all on all tables in schema freshet, public to audited`)
	require.NoError(t, err)
	t.Cleanup(func() { testkit.Exec(t, database, "drop owned by audited; drop role audited") })

	log := new(testkit.Buffer)
	var adminAddr string
	r := start(t, testkit.WithParam(t, database, "user", "audited"), func(c *live.Config) {
		c.CaptureURL, c.SkipMigrate, c.AuditReads = database, true, intercept.AuditSample
		c.Services = []protoreflect.ServiceDescriptor{testkit.Unshared(t)} // as row security wants it
		c.Authenticate = func(*http.Request) (server.Principal, error) { return server.Principal{Subject: "ann"}, nil }
		c.Front.AdminAddr = live.FreeAddr(t)
		adminAddr = c.Front.AdminAddr
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	list := func(rev freshet.Revision) *connect.Response[messagesv1.ListMessagesResponse] {
		resp, err := r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}, rev))
		require.NoError(t, err)
		return resp
	}
	first := list(freshet.Revision{})
	require.Empty(t, first.Msg.GetMessages())
	rev := stamp(t, first.Header())
	require.Empty(t, list(rev).Header().Get(intercept.HeaderCache), "neither kept nor shared")
	_, err = admin.Exec(r.ctx, "insert into shown values ('7')") // nobody is told
	require.NoError(t, err)
	require.Len(t, list(rev).Msg.GetMessages(), 1, "a kept answer was served")
	require.Equal(t, 1, strings.Count(log.String(), "table=public.shown"), log.String())

	_, err = r.client().CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Author: "ann", Body: "hi"},
	}))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(log.String(), "table=public.written"), "a table that is written and no source is worth a hint")

	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	ask := func(path string) string {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + adminAddr + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	require.Contains(t, ask("/readyz"), "public.shown")
	require.Regexp(t, `(?m)^freshet_undeclared_reads_total\{procedure="/messages.v1.MessageService/ListMessages"\} [1-9]`, ask("/metrics"))
}
