package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

// Where nobody says who calls, an answer that isn't shared is of its call alone:
// the handler may have looked at credentials that only it understands (G8).
func TestRead_unknownCallersShareNothing(t *testing.T) {
	for _, known := range []bool{false, true} {
		program := messageService()
		program.Method(messagesv1connect.MessageServiceGetMessageProcedure).Shared = false // it is this test's own
		h := hub.New(hub.Config{})
		h.Begin(at(50))
		h.Serve(at(100))
		h.Current(time.Now().Add(time.Hour)) // no lag
		ran := 0
		path, handler := messagesv1connect.NewMessageServiceHandler(&handlers{
			get: func(context.Context) (*messagesv1.GetMessageResponse, error) {
				ran++ // calls come one after the other
				return new(messagesv1.GetMessageResponse), nil
			},
		}, Options(Config{
			Contract: program, Hub: h, Primary: &primary{insert: at(100), nudged: make(chan struct{})},
			Logger: slog.New(slog.DiscardHandler),
		})...)
		mux := http.NewServeMux()
		mux.Handle(path, handler)
		var verify Authenticate
		if known {
			verify = func(*http.Request) (Principal, error) { return Principal{Subject: "ada"}, nil }
		}
		server := httptest.NewServer(NewAuthenticator(verify, slog.New(slog.DiscardHandler), nil).Wrap(mux))
		client := messagesv1connect.NewMessageServiceClient(server.Client(), server.URL)
		for range 3 {
			_, err := client.GetMessage(t.Context(), getRequest(at(100).String()))
			require.NoError(t, err)
		}
		server.Client().CloseIdleConnections()
		server.Close()
		require.Equal(t, map[bool]int{false: 3, true: 1}[known], ran, "known: %v", known)
	}
}

// asked is a request as a protocol sends it.
func asked(t *testing.T, method, contentType string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/messages.v1.MessageService/GetMessage", nil)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// Each protocol is refused in its own form, and nobody may keep that.
func TestAuthenticator_forms(t *testing.T) {
	refusal := connect.NewError(connect.CodeUnauthenticated, errors.New("no token"))
	h := NewAuthenticator(func(*http.Request) (Principal, error) { return Principal{}, refusal }, slog.New(slog.DiscardHandler), nil).
		Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("let in") }))
	for _, tt := range []struct {
		method, contentType string
		status              int
	}{
		{http.MethodGet, "", 401},
		{http.MethodHead, "", 401},
		{http.MethodPut, "text/plain", 401},
		{http.MethodPost, "", 401},
		{http.MethodPost, "application/json", 401},
		{http.MethodPost, "application/proto", 401},
		{http.MethodPost, "application/grpc", 200},
		{http.MethodPost, "application/grpc+proto", 200},
		{http.MethodPost, "application/grpc-web+proto", 200},
		{http.MethodPost, "application/connect+json", 200},
	} {
		what := tt.method + " " + tt.contentType
		w := httptest.NewRecorder()
		h.ServeHTTP(w, asked(t, tt.method, tt.contentType))
		answer := w.Result()
		require.Equal(t, tt.status, answer.StatusCode, what)
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"), what)
		if tt.status == http.StatusUnauthorized {
			require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"), what)
			require.JSONEq(t, `{"code":"unauthenticated","message":"no token"}`, w.Body.String(), what)
			continue
		}
		require.Equal(t, tt.contentType, answer.Header.Get("Content-Type"), what)
		if strings.HasPrefix(tt.contentType, "application/grpc") {
			told := answer.Header
			if told.Get("Grpc-Status") == "" {
				told = answer.Trailer
			}
			require.Equal(t, "16", told.Get("Grpc-Status"), what)
			require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"), what)
		} else {
			require.Contains(t, w.Body.String(), `"unauthenticated"`, what)
		}
	}
	require.Empty(t, refusal.Meta(), "one error may answer many")
}

// What isn't meant for callers stays inside, is logged once per outage, and lets
// nobody in.
func TestAuthenticator_whatCantBeTold(t *testing.T) {
	log := new(testkit.Buffer)
	var fails error
	h := NewAuthenticator(func(*http.Request) (Principal, error) { return Principal{}, fails }, slog.New(slog.NewTextHandler(log, nil)), nil).
		Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, asked(t, http.MethodGet, ""))
		return w
	}
	for _, fails = range []error{
		errors.New("dial secret.internal"),
		connect.NewError(connect.CodeInternal, errors.New("dial secret.internal")),
		fmt.Errorf("asking: %w", connect.NewError(connect.CodeUnknown, errors.New("secret.internal"))),
	} {
		w := ask()
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.NotContains(t, w.Body.String(), "secret")
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	require.Equal(t, 1, strings.Count(log.String(), "secret.internal"), log.String())
	fails = nil
	require.Equal(t, http.StatusNoContent, ask().Code)
	fails = errors.New("again")
	ask()
	require.Equal(t, 2, strings.Count(log.String(), "level=ERROR"), log.String())
	require.NotNil(t, NewAuthenticator(nil, nil, nil).Wrap(h), "nobody asks")
}

// Of handlers that are wrapped twice the outermost asks. An Authenticator doesn't
// take another's word.
func TestAuthenticator_asksOnce(t *testing.T) {
	var times int
	verify := func(*http.Request) (Principal, error) {
		times++
		return Principal{Subject: "ada"}, nil
	}
	one, other := NewAuthenticator(verify, slog.New(slog.DiscardHandler), nil), NewAuthenticator(verify, slog.New(slog.DiscardHandler), nil)
	ask := func(h http.Handler) {
		times = 0
		w := httptest.NewRecorder()
		h.ServeHTTP(w, asked(t, http.MethodGet, ""))
		require.Equal(t, "ada", w.Body.String())
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, PrincipalOf(r.Context()).Subject)
	})
	ask(one.Wrap(one.Wrap(hello)))
	require.Equal(t, 1, times)
	ask(one.Wrap(other.Wrap(hello)))
	require.Equal(t, 2, times)
}
