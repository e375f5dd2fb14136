package intercept

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
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
		var verify func(*http.Request) (Principal, error)
		if known {
			verify = func(*http.Request) (Principal, error) { return Principal{Subject: "ada"}, nil }
		}
		server := httptest.NewServer(Authenticate(verify, mux))
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
