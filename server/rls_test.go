package server_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store"
	"github.com/freshet-dev/freshet/store/setup"
)

// F24: two tenants and nobody ask for the same, at the same moment: while it is being
// looked up, when it is kept, at-least a revision, as a GET that may be answered 304.
// Each sees what is theirs, by claims alone and by roles.
func TestPolicies_F24_sameRequestAtTheSameMoment(t *testing.T) {
	for name, byRole := range map[string]bool{"claims": false, "roles": true} {
		t.Run(name, func(t *testing.T) {
			s := startTenants(t, byRole)
			_, _ = s.create(t, "ada", "1")
			name, at := s.create(t, "bob", "2")
			conn := testkit.Conn(t, s.database)

			_, err := conn.Exec(s.ctx, "begin; lock table messages in access exclusive mode")
			require.NoError(t, err)
			want := map[string]string{"ada": "ada:1 ", "bob": "bob:2 ", "": ""}
			const each = 6
			type answer struct {
				who, seen string
				err       error
			}
			answers := make(chan answer, each*len(want))
			for range each {
				for who := range want {
					go func() {
						seen, _, err := s.list(who, at)
						answers <- answer{who, seen, err}
					}()
				}
			}
			watcher := testkit.Conn(t, s.database)
			require.Eventually(t, func() bool {
				var waits int
				return watcher.QueryRow(s.ctx, "select count(*) from pg_locks where relation = 'messages'::regclass and not granted").Scan(&waits) == nil && waits == len(want)
			}, 30*time.Second, 5*time.Millisecond, "one query for each who asks, and all of them wait")
			_, err = conn.Exec(s.ctx, "rollback")
			require.NoError(t, err)
			for range cap(answers) {
				a := receive(t, s.ctx, answers)
				require.NoError(t, a.err, a.who)
				require.Equal(t, want[a.who], a.seen, a.who)
			}

			for who, want := range want {
				for _, options := range [][]connect.ClientOption{nil, {connect.WithGRPC()}, {connect.WithGRPCWeb()}, {connect.WithHTTPGet()}} {
					seen, from, err := s.list(who, at, options...)
					require.NoError(t, err)
					require.Equal(t, want, seen, who)
					require.Equal(t, "hit", from, "%q: each has an answer that is kept", who)
				}
			}

			// 304 is for who has the row; a tag says nothing to others.
			target := getTarget(t, name)
			ok, _ := s.send(t, "bob", http.MethodGet, target, "", nil)
			require.Equal(t, http.StatusOK, ok.StatusCode)
			tag := ok.Header.Get("ETag")
			require.NotEmpty(t, tag)
			for who, want := range map[string]int{"bob": http.StatusNotModified, "ada": http.StatusNotFound, "": http.StatusNotFound} {
				for _, candidate := range []string{tag, "*"} {
					resp, dump := s.send(t, who, http.MethodGet, target, "", http.Header{"If-None-Match": {candidate}})
					require.Equal(t, want, resp.StatusCode, "%q: %s", who, dump)
				}
			}

			// What one of them writes is told, and read again by each.
			_, at = s.create(t, "ada", "3")
			for who, want := range map[string]string{"ada": "ada:3 ada:1 ", "bob": "bob:2 ", "": ""} {
				seen, _, err := s.list(who, at)
				require.NoError(t, err)
				require.ElementsMatch(t, strings.Fields(want), strings.Fields(seen), who)
			}
		})
	}
}

// A row that policies hide can't be told from one that isn't there, by whatever one
// does to it; and what they forbid is denied in the words of a missing grant, as of no
// revision.
func TestPolicies_noOracle(t *testing.T) {
	for name, byRole := range map[string]bool{"claims": false, "roles": true} {
		t.Run(name, func(t *testing.T) {
			s := startTenants(t, byRole)
			there, at := s.create(t, "bob", "hidden")
			absent := there[:len(there)-4] + "0000"
			// Stamps move with the WAL, and with them nothing else; the value is the name
			// once more, in base64.
			masked := regexp.MustCompile(`(?m)^(Freshet-Revision|Date): .*$|"value":"[^"]*"`)
			same := func(who, method string, body func(name string) any) string {
				var answers []string
				for _, name := range []string{there, absent} {
					text, err := json.Marshal(body(name))
					require.NoError(t, err)
					_, dump := s.send(t, who, http.MethodPost, service+method, string(text), http.Header{intercept.HeaderAtLeast: {at.String()}})
					answers = append(answers, masked.ReplaceAllString(strings.ReplaceAll(dump, there, absent), "$1"))
				}
				require.Equal(t, answers[1], answers[0], method)
				return answers[0]
			}
			update := func(name string) any {
				return map[string]any{"message": map[string]any{"name": name, "body": "mine"}, "updateMask": "body"}
			}
			byName := func(name string) any { return map[string]string{"name": name} }
			for range 2 { // asked, and kept
				require.Contains(t, same("ada", "GetMessage", byName), "404 Not Found")
				require.Contains(t, same("", "GetMessage", byName), "404 Not Found")
			}
			require.Contains(t, same("ada", "UpdateMessage", update), "404 Not Found")
			require.Contains(t, same("ada", "DeleteMessage", byName), "404 Not Found")
			for _, name := range []string{there, absent} {
				resp, _ := s.send(t, "ada", http.MethodGet, getTarget(t, name), "", http.Header{"If-None-Match": {"*"}})
				require.Equal(t, http.StatusNotFound, resp.StatusCode)
				require.Empty(t, resp.Header.Get("ETag"))
			}

			_, err := s.as("ada").CreateMessage(s.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
				Parent: "conversations/one", Message: &messagesv1.Message{Author: "bob", Body: "forged"},
			}))
			requireDenied(t, err)
			seen, _, err := s.list("bob", at)
			require.NoError(t, err)
			require.Equal(t, "bob:hidden ", seen)
		})
	}
}

// requireDenied: the one text of all denials, and no stamp.
func requireDenied(t *testing.T, err error) {
	t.Helper()
	cerr := requireCode(t, connect.CodePermissionDenied, err)
	require.Equal(t, server.ErrDenied.Error(), cerr.Message())
	for header := range cerr.Meta() {
		require.NotContains(t, strings.ToLower(header), "freshet-")
	}
}

// Whose role can't be taken, has no rights or isn't said at all is denied, and the node
// is as ready as before; the anonymous role is for those without a token, and without
// the claim.
func TestPolicies_roles(t *testing.T) {
	s := startTenants(t, true)
	_, at := s.create(t, "ada", "1")
	for _, who := range []string{"ada as stranger", "ada as none", "ada as no such role", "ada as ", "ada as service; reset role"} {
		_, _, err := s.list(who, at)
		requireDenied(t, err)
	}
	seen, _, err := s.list("ada as guest", at)
	require.NoError(t, err)
	require.Equal(t, "ada:1 ", seen)
	_, err = s.as("ada as guest").CreateMessage(s.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/one", Message: &messagesv1.Message{Author: "ada", Body: "no"},
	}))
	requireDenied(t, err)
	require.NoError(t, s.node.Ready())

	// Within a right that is taken from the role while it serves.
	testkit.Exec(t, s.database, "revoke select on messages from guest")
	require.Eventually(t, func() bool {
		_, _, err := s.list("ada as guest", freshet.Revision{})
		return connect.CodeOf(err) == connect.CodePermissionDenied
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, s.node.Ready())
}

// The read audit sees what a caller's role looks into.
func TestPolicies_audit(t *testing.T) {
	database, service := policed(t)
	testkit.Exec(t, database, `create table grudges (who text); grant select on grudges to member;
		create policy others on messages as restrictive for select to member using (not exists (select from grudges where who = author))`)
	r := embed(t, server.Config{
		DatabaseURL: service, CaptureURL: database, SkipMigrate: true, DBRoleClaim: "db_role", AuditReads: intercept.AuditAll,
		Services: []protoreflect.ServiceDescriptor{testkit.Unshared(t)},
		Authenticate: func(r *http.Request) (server.Principal, error) {
			return server.Principal{Subject: "ada", Claims: map[string]any{"sub": "ada", "db_role": r.Header.Get("Test-User")}}, nil
		},
	})
	r.live(t)
	client := messagesv1connect.NewMessageServiceClient(r.http, r.url, connect.WithInterceptors(identity("member")))
	_, err := client.CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/one", Message: &messagesv1.Message{Author: "ada", Body: "1"},
	}))
	require.NoError(t, err)
	_, err = client.ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}))
	require.ErrorContains(t, err, "reads table public.grudges", "a policy looks into it, and nobody is told when it changes")
	client = messagesv1connect.NewMessageServiceClient(r.http, r.url, connect.WithInterceptors(identity("guest")))
	_, err = client.ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}))
	require.NoError(t, err)
}

// F24: a table with row security under shared reads is refused at the start, whatever
// the role; when it gets it later, no answer is shared or kept any more, and each is
// what the connection's role sees without claims: nothing.
func TestPolicies_F24_sharedReads(t *testing.T) {
	database, service := policed(t)
	for _, url := range []string{service, database} {
		err := refused(t, server.Config{DatabaseURL: url, CaptureURL: database, SkipMigrate: true})
		var unfit *setup.UnfitError
		require.ErrorAs(t, err, &unfit)
		require.ErrorContains(t, err, "the table public.messages has row security")
		require.ErrorContains(t, err, "MessageService/ListMessages")
	}

	testkit.Exec(t, database, "alter table messages disable row level security")
	r := embed(t, server.Config{
		DatabaseURL: service, CaptureURL: database, SkipMigrate: true,
		Authenticate: func(r *http.Request) (server.Principal, error) {
			who := r.Header.Get("Test-User")
			return server.Principal{Subject: who, Claims: map[string]any{"sub": who}}, nil
		},
	})
	r.live(t)
	s := tenants{&granted{bare: r, h2: r.http}}
	_, at := s.create(t, "ada", "1")
	for _, who := range []string{"ada", "bob"} {
		seen, _, err := s.list(who, at)
		require.NoError(t, err)
		require.Equal(t, "ada:1 ", seen)
	}
	testkit.Exec(t, database, "alter table messages enable row level security")
	require.Eventually(t, func() bool {
		seen, from, err := s.list("ada", at)
		return err == nil && seen == "" && from == "miss"
	}, 20*time.Second, 5*time.Millisecond)
	for _, who := range []string{"ada", "bob", "ada"} {
		seen, from, err := s.list(who, at)
		require.NoError(t, err)
		require.Empty(t, seen)
		require.Equal(t, "miss", from, "neither kept nor shared")
	}
	require.NoError(t, r.node.Ready())
}

// F24: a service with a pool of its own has the session from the node, and sets it.
func TestPolicies_F24_ownPool(t *testing.T) {
	database, service := policed(t)
	pool, err := sql.Open("pgx", service)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	pool.SetMaxOpenConns(1) // all share it
	var node *server.Node
	handler := &foreign{ids: func(ctx context.Context, conversation string) ([]string, error) {
		session, err := node.Session(ctx)
		if err != nil {
			return nil, err
		}
		tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		defer func() { _ = tx.Rollback() }()
		if statement, args := session.Statement(); statement != "" {
			if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
				return nil, err
			}
		}
		var ids string
		err = tx.QueryRowContext(ctx, foreignList, conversation).Scan(&ids)
		return strings.Split(ids, ","), err
	}}
	r := start(t, database, func(c *live.Config) {
		c.SkipMigrate, c.Services = true, []protoreflect.ServiceDescriptor{testkit.Unshared(t)}
		c.DBRoleClaim, c.DBAnonymousRole = "db_role", "guest"
		c.AuditReads = intercept.AuditOff
		c.Authenticate = func(r *http.Request) (server.Principal, error) {
			who := r.Header.Get("Test-User")
			return server.Principal{Subject: who, Claims: map[string]any{"sub": who, "db_role": "member"}}, nil
		}
		c.Handler = func(n *server.Node) (string, http.Handler) {
			node = n
			return messagesv1connect.NewMessageServiceHandler(handler, n.HandlerOptions()...)
		}
	})
	testkit.Exec(t, database, "insert into messages (conversation, author, body) values ('one', 'ada', '1'), ('one', 'ada', '2'), ('one', 'bob', '3')")
	for range 2 {
		for who, want := range map[string]int{"ada": 2, "bob": 1, "eve": 0} {
			resp, err := r.client(connect.WithInterceptors(identity(who))).ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}))
			require.NoError(t, err)
			names := 0
			for _, m := range resp.Msg.GetMessages() {
				if m.GetName() != "" {
					names++
				}
			}
			require.Equal(t, want, names, who)
		}
	}
	require.Nil(t, func() *store.Session { s, _ := node.Session(t.Context()); return s }(), "the service's own work is the connection's role's")
}
