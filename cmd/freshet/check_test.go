package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

func TestCheck_exitCodes(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	var out, err bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"check", "--url", "http://127.0.0.1:1"}, &out, &err))
	require.Contains(t, err.String(), "doesn't answer")
	require.Equal(t, exitUsage, run(t.Context(), []string{"check", "--duration", "long"}, &out, &err))
	require.Equal(t, exitUsage, run(t.Context(), []string{"check", "--serve", "--url", "http://127.0.0.1:1"}, &out, &err))
	require.Contains(t, err.String(), "leave out --url")
	require.Equal(t, exitFailed, run(t.Context(), []string{"check", "--faults", "kill-server"}, &out, &err))
	require.Contains(t, err.String(), "kill-server can only be done to a server of the checker's own (--serve, --cluster; Config.Stage); possible here: cut-clients")
}

// A server that shows what nobody wrote is told apart by the exit code, and the
// files are written all the same.
func TestCheck_liar(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	mux := http.NewServeMux()
	mux.Handle(messagesv1connect.NewMessageServiceHandler(liar{}))
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("id: 00000001-0000000000000001\nevent: ready\ndata: {\"revision\":\"00000001-0000000000000001\",\"heartbeat_ms\":100}\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	c := &checkCmd{
		TokenFile: token,
		URL:       server.URL, Duration: 500 * time.Millisecond, Round: 500 * time.Millisecond, Clients: 2, Writers: 1, Rate: 50,
		JSON: filepath.Join(dir, "r.json"), SVG: filepath.Join(dir, "r.svg"),
	}
	var out, stderr bytes.Buffer
	require.ErrorIs(t, c.Run(t.Context(), streams{&out, &stderr}, (&cli{}).logger(&stderr)), errFindings)
	require.NotContains(t, out.String(), "stream refused")
	require.Contains(t, out.String(), "G6, honest stamps, is broken: ")
	text, err := os.ReadFile(c.JSON)
	require.NoError(t, err)
	var report struct{ Violations int }
	require.NoError(t, json.Unmarshal(text, &report))
	require.Positive(t, report.Violations)
	require.FileExists(t, c.SVG)
}

// liar answers every read with a row that nobody wrote.
type liar struct {
	messagesv1connect.UnimplementedMessageServiceHandler
}

func (liar) ListMessages(_ context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	if req.Header().Get("Authorization") != "Bearer secret" {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("no token"))
	}
	resp := connect.NewResponse(&messagesv1.ListMessagesResponse{Messages: []*messagesv1.Message{{Body: check.Cell{Row: 1 << 20, Version: 1}.String()}}})
	resp.Header().Set("Freshet-Revision", "00000001-0000000000000001")
	return resp, nil
}
