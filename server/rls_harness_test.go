package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// policed is a database in which each author sees and writes what is theirs, and the
// URL of the service's role, which owns nothing and is a member of two callers' roles.
func policed(t testing.TB) (database, service string) {
	t.Helper()
	database = testkit.Template(t, "policed", func(ctx context.Context, url string) error {
		if err := testkit.SetUp(ctx, url); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, `
create role service login noinherit; create role member; create role guest; create role stranger; grant member, guest to service;
alter table messages enable row level security;
create policy mine on messages using (author = nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub');
grant select, insert, update, delete on messages to service, member; grant select on messages to guest`)
		return err
	})
	return database, strings.Replace(database, "postgres@", "service@", 1)
}

// tenants is a node on such a database, behind a middleware that knows callers by
// their names. By roles it runs their statements as the roles in their claims.
type tenants struct {
	*granted
}

func startTenants(t *testing.T, byRole bool) tenants {
	t.Helper()
	database, service := policed(t)
	cfg := server.Config{
		DatabaseURL: service, CaptureURL: database, SkipMigrate: true,
		Services: []protoreflect.ServiceDescriptor{testkit.Unshared(t)},
		MaxConns: 8,
	}
	if byRole {
		cfg.DBRoleClaim, cfg.DBAnonymousRole = "db_role", "guest"
	}
	cfg.Authenticate = func(r *http.Request) (server.Principal, error) {
		who := r.Header.Get("Test-User")
		if who == "" {
			return server.Principal{}, nil
		}
		p := server.Principal{Issuer: "test", Subject: who, Claims: map[string]any{"sub": who}}
		if byRole {
			p.Claims["db_role"] = "member"
		}
		if name, role, ok := strings.Cut(who, " as "); ok {
			p.Claims = map[string]any{"sub": name, "db_role": role}
		}
		return p.WithScope(), nil
	}
	g := &granted{bare: embedBehind(t, cfg, intercept.RequestID)}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	g.h2 = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	g.live(t)
	g.database = database // not as the service
	return tenants{g}
}

// create writes a message as somebody, and returns its name and its stamp.
func (s tenants) create(t *testing.T, who, body string) (string, freshet.Revision) {
	t.Helper()
	resp, err := s.as(who).CreateMessage(s.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/one", Message: &messagesv1.Message{Author: who, Body: body},
	}))
	require.NoError(t, err)
	return resp.Msg.GetMessage().GetName(), stamp(t, resp.Header())
}

// list reads the conversation as somebody: what they see, and from where.
func (s tenants) list(who string, at freshet.Revision, options ...connect.ClientOption) (seen, from string, err error) {
	resp, err := s.as(who, options...).ListMessages(s.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, at))
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	for _, m := range resp.Msg.GetMessages() {
		b.WriteString(m.GetAuthor() + ":" + m.GetBody() + " ")
	}
	return b.String(), resp.Header().Get(intercept.HeaderCache), nil
}
