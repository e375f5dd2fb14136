package systemtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/claims"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/internal/testkit/orgs"
	orgsv1 "github.com/freshet-dev/freshet/internal/testkit/orgs/gen/orgs/v1"
	"github.com/freshet-dev/freshet/internal/testkit/orgs/gen/orgs/v1/orgsv1connect"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/intercept"
)

// offices is a server whose callers' tokens are their claims, and whose grants are
// those of their organization.
type offices struct {
	url  string
	conn *pgx.Conn
}

const grantsOfOrgs = `rules:
  - {read: ["orgs/{org_id}/**"], write: ["orgs/{org_id}/**"]}
`

func newOffices(t *testing.T) *offices {
	t.Helper()
	granted, err := grants.Parse("grants.yaml", []byte(grantsOfOrgs))
	require.NoError(t, err)
	database := testkit.Database(t)
	running := live.Start(t, database, func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{orgs.Service()}
		c.Migrate, c.Check = orgs.Migrate, nil
		c.AuditReads = intercept.AuditAll
		c.Front.Authenticated = true
		c.Authenticate = func(r *http.Request) (server.Principal, error) {
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			text, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil || token == "" {
				return server.Principal{}, err
			}
			all, err := claims.Parse(text)
			who, _ := all["sub"].(string)
			p := server.Principal{Issuer: "test", Subject: who, Claims: all}.WithScope()
			if exp, ok := all["exp"].(int64); ok {
				p.Expires = time.Unix(exp, 0)
			}
			return p, err
		}
		c.Authorize = func(ctx context.Context, who server.Principal, action server.Action, topics []string) error {
			return granted.Authorize(ctx, grants.Caller{Issuer: who.Issuer, Subject: who.Subject, Claims: who.Claims}, action, topics)
		}
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return orgs.Handler(node.DB(), node.HandlerOptions()...)
		}
	})
	return &offices{url: running.URL, conn: testkit.Conn(t, database)}
}

// of is a token of somebody in an organization.
func (*offices) of(who string, org any) string {
	return tokenOf(map[string]any{"sub": who, "org_id": org})
}

func tokenOf(all map[string]any) string {
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // a test's own claims
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// caller calls with one token. The client's token source hands it out to streams.
func (o *offices) caller(t *testing.T, token string, options ...connect.ClientOption) (orgsv1connect.NoteServiceClient, *client.Client) {
	t.Helper()
	c, err := client.New(o.url, client.WithTokenSource(func(context.Context) (string, error) { return token, nil }))
	require.NoError(t, err)
	return orgsv1connect.NewNoteServiceClient(http.DefaultClient, o.url, append(options, connect.WithInterceptors(c.Interceptor()))...), c
}

// listNotes reads at least a revision.
func listNotes(t *testing.T, notes orgsv1connect.NoteServiceClient, rev freshet.Revision) (texts string, header http.Header) {
	t.Helper()
	resp, err := notes.ListNotes(client.AtLeast(t.Context(), rev), connect.NewRequest(new(orgsv1.ListNotesRequest)))
	require.NoError(t, err)
	var all []string
	for _, note := range resp.Msg.GetNotes() {
		all = append(all, strings.Join(append([]string{note.GetText()}, note.GetTags()...), "+"))
	}
	return strings.Join(all, " "), resp.Header()
}

func writeNote(t *testing.T, notes orgsv1connect.NoteServiceClient, text string) freshet.Revision {
	t.Helper()
	resp, err := notes.WriteNote(t.Context(), connect.NewRequest(&orgsv1.WriteNoteRequest{Text: text}))
	require.NoError(t, err)
	rev, err := freshet.ParseRevision(resp.Header().Get(intercept.HeaderRevision))
	require.NoError(t, err)
	return rev
}

// F24, G8, G5: topics out of a claim of the caller. Two organizations are in one table,
// and their callers send the same request: each has answers, kept ones too, of its own
// organization only, and reads its own writes.
func TestOrgs_F24_G8(t *testing.T) {
	o := newOffices(t)
	for name, options := range map[string][]connect.ClientOption{
		"connect": nil, "json": {connect.WithProtoJSON()}, "grpc-web": {connect.WithGRPCWeb()}, "get": {connect.WithHTTPGet()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.conn.Exec(t.Context(), "delete from notes")
			require.NoError(t, err)
			acme, _ := o.caller(t, o.of("ada", "acme/1"), options...)
			globex, _ := o.caller(t, o.of("bob", "globex"), options...)
			moved, _ := o.caller(t, o.of("ada", "globex"), options...) // the same subject

			at := writeNote(t, acme, "a")
			texts, header := listNotes(t, acme, at)
			require.Equal(t, "a", texts, "G5")
			require.Equal(t, "org_id=acme%2F1", header.Get(intercept.HeaderPrincipal))
			texts, header = listNotes(t, acme, at)
			require.Equal(t, "a", texts)
			require.Equal(t, "hit", header.Get(intercept.HeaderCache))
			for _, other := range []orgsv1connect.NoteServiceClient{globex, moved} {
				texts, header = listNotes(t, other, at)
				require.Empty(t, texts, "G8: not what is kept for others")
				require.Equal(t, "miss", header.Get(intercept.HeaderCache))
				require.Equal(t, "org_id=globex", header.Get(intercept.HeaderPrincipal))
			}

			// What is written in one doesn't make what is kept of the other worthless.
			at = writeNote(t, globex, "g")
			texts, header = listNotes(t, acme, at)
			require.Equal(t, "a", texts)
			require.Equal(t, "hit", header.Get(intercept.HeaderCache))
			texts, _ = listNotes(t, globex, at)
			require.Equal(t, "g", texts, "G5")
			texts, _ = listNotes(t, moved, at)
			require.Equal(t, "g", texts)

			// A tag is told by a topic of the answer, and of the caller.
			_, err = o.conn.Exec(t.Context(), "insert into tags select id, org_id, 'new' from notes where text = 'a'")
			require.NoError(t, err)
			texts, header = listNotes(t, acme, writeNote(t, globex, "h"))
			require.Equal(t, "a+new", texts)
			require.Equal(t, "miss", header.Get(intercept.HeaderCache))
		})
	}
}

// G1, G2, G8: a write in one organization is told to those of its callers who follow
// it, and what they read again has it; nobody else may follow.
func TestOrgs_G2_told(t *testing.T) {
	o := newOffices(t)
	acme, follows := o.caller(t, o.of("ada", "acme"))
	globex, spies := o.caller(t, o.of("bob", "globex"))
	topics := []string{"orgs/acme/notes"}
	refused := spies.Stream(t.Context(), topics, func(client.Event) error { return nil })
	require.ErrorContains(t, refused, "403")

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ready, told := make(chan struct{}), make(chan freshet.Revision, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- follows.Stream(ctx, topics, func(e client.Event) error {
			switch e := e.(type) {
			case client.Ready:
				close(ready)
			case client.Invalidate:
				told <- e.Revision
			}
			return nil
		})
	}()
	<-ready
	writeNote(t, globex, "g") // not told
	at := writeNote(t, acme, "a")
	rev := <-told
	require.Equal(t, at, rev)
	texts, _ := listNotes(t, acme, rev)
	require.Equal(t, "a", texts, "G1")
	require.Empty(t, told)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// Who lacks the claim, or has one that no topic can hold, is refused before anything
// is looked up, in words that say what to do and no value.
func TestOrgs_claims(t *testing.T) {
	o := newOffices(t)
	for what, tt := range map[string]struct {
		token string
		code  connect.Code
		text  string
	}{
		"nobody":    {"", connect.CodeUnauthenticated, "the caller has none"},
		"no claim":  {tokenOf(map[string]any{"sub": "ada"}), connect.CodePermissionDenied, "the caller has none"},
		"null":      {o.of("ada", nil), connect.CodePermissionDenied, "the caller has none"},
		"empty":     {o.of("ada", ""), connect.CodePermissionDenied, "it is empty"},
		"list":      {o.of("ada", []string{"acme"}), connect.CodePermissionDenied, "it is neither a string nor an integer nor a bool"},
		"object":    {o.of("ada", map[string]string{"id": "acme"}), connect.CodePermissionDenied, "it is neither a string nor an integer nor a bool"},
		"fraction":  {o.of("ada", 0.5), connect.CodePermissionDenied, "it is neither a string nor an integer nor a bool"},
		"very long": {o.of("ada", strings.Repeat("x", 600)), connect.CodePermissionDenied, "it is longer than a topic"},
	} {
		for _, options := range [][]connect.ClientOption{nil, {connect.WithGRPCWeb()}} {
			notes, _ := o.caller(t, tt.token, options...)
			_, err := notes.ListNotes(t.Context(), connect.NewRequest(new(orgsv1.ListNotesRequest)))
			_, writeErr := notes.WriteNote(t.Context(), connect.NewRequest(new(orgsv1.WriteNoteRequest)))
			for _, err := range []error{err, writeErr} {
				var refusal *connect.Error
				require.ErrorAs(t, err, &refusal, what)
				require.Equal(t, tt.code, refusal.Code(), what)
				require.Contains(t, refusal.Message(), `its topics take the caller's claim "org_id", and `+tt.text, what)
				require.Contains(t, refusal.Message(), "ask for a token that has it", what)
				require.NotContains(t, refusal.Message(), "acme", "no value of it")
				require.Empty(t, refusal.Meta().Get(intercept.HeaderRevision))
				require.Empty(t, refusal.Meta().Get(intercept.HeaderPrincipal))
			}
		}
	}
	// A Go client is told so, and doesn't ask for ever.
	notes, c := o.caller(t, tokenOf(map[string]any{"sub": "ada"}))
	q, err := client.NewQuery(c, notes.ListNotes, new(orgsv1.ListNotesRequest))
	require.NoError(t, err)
	err = q.Run(t.Context())
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.ErrorContains(t, err, `"org_id"`)
	require.Equal(t, err, q.Latest().StreamErr)

	for _, value := range []any{7, true, "-"} {
		notes, _ := o.caller(t, o.of("ada", value))
		_, header := listNotes(t, notes, freshet.Revision{})
		require.Equal(t, map[any]string{7: "org_id=7", true: "org_id=true", "-": "org_id=%2D"}[value], header.Get(intercept.HeaderPrincipal))
	}
}

// G2, G3, G8: a Go client learns from an answer what to follow. When another token is
// sent, of another organization here, it reads again and follows that one's topics;
// whether a call has sent it, or the renewal of the stream, which is refused then.
func TestOrgs_G3_client(t *testing.T) {
	o := newOffices(t)
	for name, byCall := range map[string]bool{"by a call": true, "by a renewal": false} {
		t.Run(name, func(t *testing.T) {
			first := o.of("ada", "acme")
			if !byCall {
				first = tokenOf(map[string]any{"sub": "ada", "org_id": "acme", "exp": time.Now().Add(4 * time.Second).Unix()})
			}
			var token atomic.Value
			token.Store(first)
			c, err := client.New(o.url, client.WithTokenSource(func(ctx context.Context) (string, error) {
				if client.StaleToken(ctx) == first {
					token.Store(o.of("ada", "globex"))
				}
				return token.Load().(string), nil
			}))
			require.NoError(t, err)
			notes := orgsv1connect.NewNoteServiceClient(http.DefaultClient, o.url, connect.WithInterceptors(c.Interceptor()))
			_, err = o.conn.Exec(t.Context(), "delete from notes; insert into notes (id, org_id, text) values (101, 'acme', 'a1'), (102, 'globex', 'g1')")
			require.NoError(t, err)

			q, err := client.NewQuery(c, notes.ListNotes, new(orgsv1.ListNotesRequest))
			require.NoError(t, err)
			require.Empty(t, q.Topics(), "only an answer tells")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			ended := make(chan error, 1)
			go func() { ended <- q.Run(ctx) }()
			defer func() {
				cancel()
				require.ErrorIs(t, <-ended, context.Canceled)
			}()
			holds := func(org string, topics ...string) {
				t.Helper()
				want, err := orgs.Look(t.Context(), o.conn, org)
				require.NoError(t, err)
				for s := range q.Changes(ctx) {
					if s.Fresh && proto.Equal(s.Value, want) {
						break
					}
				}
				require.NoError(t, ctx.Err(), "G3: of %s %v", org, want)
				require.Equal(t, topics, q.Topics())
			}
			holds("acme", "orgs/acme/notes", "orgs/acme/notes/101/tags")
			_, err = o.conn.Exec(t.Context(), "insert into tags values (101, 'acme', 'new')")
			require.NoError(t, err)
			holds("acme", "orgs/acme/notes", "orgs/acme/notes/101/tags")

			if byCall {
				token.Store(o.of("ada", "globex"))
				writeNote(t, notes, "g2") // nothing but a call says so
				holds("globex", "orgs/globex/notes", "orgs/globex/notes/1/tags", "orgs/globex/notes/102/tags")
			} else {
				holds("globex", "orgs/globex/notes", "orgs/globex/notes/102/tags")
			}
			for _, sql := range []string{
				"insert into tags values (102, 'globex', 'newer')",
				"insert into notes (id, org_id, text) values (107, 'globex', 'g3')",
				"delete from notes where id in (1, 107)",
			} {
				_, err = o.conn.Exec(t.Context(), sql)
				require.NoError(t, err)
				topics := []string{"orgs/globex/notes"}
				if byCall && strings.HasPrefix(sql, "insert") {
					topics = append(topics, "orgs/globex/notes/1/tags")
				}
				topics = append(topics, "orgs/globex/notes/102/tags")
				if strings.Contains(sql, "'g3'") {
					topics = append(topics, "orgs/globex/notes/107/tags")
				}
				holds("globex", topics...)
			}
		})
	}
}
