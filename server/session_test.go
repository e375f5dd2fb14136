package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store"
)

// asked is what a service's call is told of its session, behind a middleware that
// knows callers, or doesn't.
func asked(t *testing.T, who *Principal, roleClaim, anonymous string) (s *store.Session, err error) {
	t.Helper()
	var handler http.Handler = connect.NewUnaryHandler("/s/m", func(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		s, err = sessions(roleClaim, anonymous)(ctx)
		return connect.NewResponse(new(emptypb.Empty)), nil
	})
	if who != nil {
		handler = intercept.NewAuthenticator(func(*http.Request) (Principal, error) { return *who, nil }, slog.New(slog.DiscardHandler), nil).Wrap(handler)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	_, called := connect.NewClient[emptypb.Empty, emptypb.Empty](server.Client(), server.URL+"/s/m").CallUnary(t.Context(), connect.NewRequest(new(emptypb.Empty)))
	require.NoError(t, called)
	return s, err
}

func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		who             *Principal
		roleClaim, anon string
		want            *store.Session // nil: denied
	}{
		"claims":                       {&Principal{Issuer: "i", Subject: "ada", Claims: map[string]any{"iss": "i", "sub": "ada", "n": int64(7)}}, "", "", &store.Session{Claims: `{"iss":"i","n":7,"sub":"ada"}`}},
		"a subject without claims":     {&Principal{Issuer: "i", Subject: "ada"}, "", "", &store.Session{Claims: `{"iss":"i","sub":"ada"}`}},
		"nobody in particular":         {&Principal{}, "", "", &store.Session{Claims: `{}`}},
		"characters of any script":     {&Principal{Claims: map[string]any{"sub": "é€😀'\\\x00"}}, "", "", &store.Session{Claims: `{"sub":"\u00e9\u20ac\ud83d\ude00'\\\u0000"}`}},
		"a role":                       {&Principal{Claims: map[string]any{"role": "member"}}, "role", "", &store.Session{Claims: `{"role":"member"}`, Role: "member"}},
		"a role, and an anonymous one": {&Principal{Claims: map[string]any{"role": "member"}}, "role", "guest", &store.Session{Claims: `{"role":"member"}`, Role: "member"}},
		"a role that nobody asks for":  {&Principal{Claims: map[string]any{"role": "member"}}, "", "", &store.Session{Claims: `{"role":"member"}`}},
		"the anonymous role":           {&Principal{}, "role", "guest", &store.Session{Claims: `{"role":"guest"}`, Role: "guest"}},
		"a token without the claim":    {&Principal{Subject: "ada"}, "role", "guest", &store.Session{Claims: `{"role":"guest","sub":"ada"}`, Role: "guest"}},
		"no claim and no role for it":  {&Principal{Subject: "ada"}, "role", "", nil},
		"nobody, and no role for it":   {&Principal{}, "role", "", nil},
		"the connection's role":        {&Principal{Claims: map[string]any{"role": "none"}}, "role", "guest", nil},
		"an empty role":                {&Principal{Claims: map[string]any{"role": ""}}, "role", "guest", nil},
		"roles, in a list":             {&Principal{Claims: map[string]any{"role": []any{"member"}}}, "role", "guest", nil},
		"null":                         {&Principal{Claims: map[string]any{"role": nil}}, "role", "guest", nil},
		"nobody authenticates":         {nil, "role", "guest", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := asked(t, c.who, c.roleClaim, c.anon)
			if c.want == nil {
				require.ErrorIs(t, err, store.ErrDenied)
				require.Nil(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.True(t, json.Valid([]byte(got.Claims)))
			for _, b := range []byte(got.Claims) {
				require.Less(t, b, byte(0x80))
			}
		})
	}
}

// A service's own work, and calls that nobody authenticates where no role is asked
// for, run as the pool's role.
func TestSessions_nobodys(t *testing.T) {
	s, err := sessions("role", "guest")(t.Context())
	require.NoError(t, err)
	require.Nil(t, s)
	s, err = asked(t, nil, "", "")
	require.NoError(t, err)
	require.Nil(t, s)
}

// What is said of a principal isn't changed by telling it.
func TestSessions_leavesClaimsAlone(t *testing.T) {
	claims := map[string]any{"x": "y"}
	_, err := asked(t, &Principal{Issuer: "i", Subject: "ada", Claims: claims}, "role", "guest")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"x": "y"}, claims)
}

func BenchmarkSessions(b *testing.B) {
	claims := map[string]any{
		"aud": "freshet", "email": "ada@example.com", "exp": int64(1790000000), "iat": int64(1789996400), "iss": "https://issuer.example.com/realms/one",
		"scope": "openid messages.read messages.write", "sub": "6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a", "role": "member",
	}
	who := Principal{Issuer: "https://issuer.example.com/realms/one", Subject: "6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a", Claims: claims}.WithScope()
	for b.Loop() {
		if _, err := sessionOf(who, "role", ""); err != nil {
			b.Fatal(err)
		}
	}
}
