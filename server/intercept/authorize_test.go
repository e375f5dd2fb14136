package intercept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/grants"
)

// newAuthorized is a rig with an Authorize; the caller is who the header Test-User says.
func newAuthorized(t *testing.T, allowed Authorize, options ...connect.ClientOption) *rig {
	t.Helper()
	return newRig(t, func(c *Config) { c.Authorizer = NewAuthorizer(allowed, c.Logger) }, options...)
}

func TestAuthorize_asksForTopicsAndWrites(t *testing.T) {
	var got []string
	r := newAuthorized(t, func(_ context.Context, who Principal, action grants.Action, topics []string) error {
		got = append(got, fmt.Sprint(who.Subject, " ", action, " ", topics))
		if action == grants.Write {
			return grants.ErrDenied
		}
		return nil
	})
	r.handlers.remove = func(context.Context) error { t.Error("the handler ran"); return nil }
	_, err := r.get(t)
	require.NoError(t, err)
	req := deleteRequest()
	req.Header().Set("Test-User", "ada")
	_, err = r.client.DeleteMessage(t.Context(), req)
	requireCode(t, connect.CodePermissionDenied, err)
	require.Equal(t, []string{" read [" + name + "]", "ada write [" + name + "]"}, got)
}

// One answer to all who are denied, whatever the hook says; and none of its text.
func TestAuthorize_oneAnswer(t *testing.T) {
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		var says atomic.Value
		r := newAuthorized(t, func(context.Context, Principal, grants.Action, []string) error { return says.Load().(error) }, options...)
		r.handlers.get = nil // it would panic
		for _, err := range []error{
			grants.ErrDenied,
			fmt.Errorf("secret: %w", grants.ErrDenied),
			connect.NewError(connect.CodePermissionDenied, errors.New("secret")),
		} {
			says.Store(fmt.Errorf("%w", err)) // of one type
			stamp, err := r.get(t, at(40).String())
			require.Equal(t, "permission_denied: the caller has no grant for this", err.Error())
			require.Empty(t, stamp, "nothing was looked at")
		}
		for range 3 {
			says.Store(fmt.Errorf("%w", connect.NewError(connect.CodeNotFound, errors.New("secret"))))
			_, err := r.get(t)
			requireCode(t, connect.CodeUnavailable, err)
			require.NotContains(t, err.Error(), "secret")
		}
		require.Equal(t, 1, strings.Count(r.log.String(), "secret"), "once per outage")
	})
}

// Who is denied waits for nothing, and can't tell by it how far the database is: a
// revision that nobody has reached is refused like any other request.
func TestAuthorize_beforeAnythingElse(t *testing.T) {
	r := newAuthorized(t, func(context.Context, Principal, grants.Action, []string) error { return grants.ErrDenied })
	for _, atLeast := range []string{at(150).String(), at(1 << 40).String(), "nonsense", "00000001-0000000000000001"} {
		_, err := r.get(t, atLeast)
		requireCode(t, connect.CodePermissionDenied, err)
	}
	require.Zero(t, r.primary.statements())
}

// A kept answer is for those who are granted its topics, whoever it was made for.
func TestAuthorize_F24_keptAnswers(t *testing.T) {
	r := newAuthorized(t, func(_ context.Context, who Principal, _ grants.Action, _ []string) error {
		if who.Subject == "eve" {
			return grants.ErrDenied
		}
		return nil
	})
	for _, user := range []string{"ada", "eve", "bob", "eve"} {
		req := getRequest(at(100).String())
		req.Header().Set("Test-User", user)
		_, err := r.client.GetMessage(t.Context(), req)
		require.Equal(t, user != "eve", err == nil, user)
	}
}

// A name that is none, and a method that the contract doesn't know: nobody can say
// what would be granted.
func TestAuthorize_nothingToAsk(t *testing.T) {
	asked := false
	a := NewAuthorizer(func(context.Context, Principal, grants.Action, []string) error { asked = true; return nil }, slog.New(slog.DiscardHandler))
	requireCode(t, connect.CodePermissionDenied, a.Ask(t.Context(), Principal{}, grants.Read, nil))
	step := authorize(a)(func(context.Context, *call) (connect.AnyResponse, error) {
		t.Error("it was let through")
		return nil, nil
	})
	_, err := step(t.Context(), &call{req: getRequest()})
	requireCode(t, connect.CodePermissionDenied, err)
	stream := authorizeStream(a, func(context.Context, connect.StreamingHandlerConn) error {
		t.Error("it was let through")
		return nil
	})
	requireCode(t, connect.CodePermissionDenied, stream(t.Context(), conn{}))
	require.False(t, asked)
}

type conn struct{ connect.StreamingHandlerConn }

func (conn) Spec() connect.Spec { return connect.Spec{Procedure: "/other.v1.Other/Stream"} }

// The answer of a mutation names the topics that its caller may follow.
func TestAuthorize_shownTopics(t *testing.T) {
	asked := 0
	a := NewAuthorizer(func(_ context.Context, who Principal, action grants.Action, topics []string) error {
		asked++
		require.Equal(t, grants.Subscribe, action)
		require.Equal(t, "ada", who.Subject)
		for _, topic := range topics {
			if topic == "down" {
				return errors.New("down")
			}
			if !strings.HasPrefix(topic, "mine/") {
				return grants.ErrDenied
			}
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	ctx := context.WithValue(t.Context(), callerKey{}, caller{Principal: Principal{Subject: "ada"}})
	for _, tt := range []struct{ topics, want []string }{
		{nil, nil},
		{[]string{"mine/1", "mine/2"}, []string{"mine/1", "mine/2"}},
		{[]string{"mine/1", "other/1", "mine/2"}, []string{"mine/1", "mine/2"}},
		{[]string{"other/1"}, nil},
		{[]string{"mine/1", "down", "other/1"}, nil},
		{[]string{"other/1", "mine/1", "down"}, nil},
	} {
		require.Equal(t, tt.want, a.shown(ctx, tt.topics), "%v", tt.topics)
	}
	asked = 0
	require.Nil(t, a.shown(ctx, append(make([]string, maxShown), "mine/1")))
	require.Equal(t, 1, asked, "as many questions as that are too many")
	require.Equal(t, []string{"x"}, (*Authorizer)(nil).shown(ctx, []string{"x"}))
}

// BenchmarkAuthorize is what grants cost a call, beside none.
//
//	go test ./server/intercept -run '^$' -bench Authorize
func BenchmarkAuthorize(b *testing.B) {
	set, err := grants.Parse("grants.yaml", []byte(`
rules:
  - when: "'messages.read' in claims.scope.split(' ')"
    read: ["conversations/{conversations}/**"]
`))
	require.NoError(b, err)
	who := Principal{Issuer: "https://issuer.example", Subject: "ada", Claims: map[string]any{
		"iss": "https://issuer.example", "sub": "ada", "aud": []any{"api"}, "exp": int64(1790000000), "iat": int64(1780000000), "jti": "4f1c2a",
		"scope": "openid messages.read", "conversations": []any{"a", "b", "c"}, "email": "ada@example.com", "roles": []any{"x", "y"},
	}}
	allowed := NewAuthorizer(func(ctx context.Context, who Principal, action grants.Action, topics []string) error {
		return set.Authorize(ctx, grants.Caller{Issuer: who.Issuer, Subject: who.Subject, Claims: who.Claims}, action, topics)
	}, slog.New(slog.DiscardHandler))
	for name, a := range map[string]*Authorizer{"off": nil, "grants": allowed} {
		b.Run(name, func(b *testing.B) {
			h := authorize(a)(func(context.Context, *call) (connect.AnyResponse, error) { return nil, nil })
			ctx := context.WithValue(b.Context(), callerKey{}, caller{Principal: who})
			c := &call{req: getRequest(), method: messageService().Method(messagesv1connect.MessageServiceGetMessageProcedure)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h(ctx, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An Authorize that hangs is bounded by the call.
func TestAuthorize_hangs(t *testing.T) {
	r := newAuthorized(t, func(ctx context.Context, _ Principal, _ grants.Action, _ []string) error {
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.client.GetMessage(ctx, getRequest())
	requireCode(t, connect.CodeDeadlineExceeded, err)
}
