package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

func TestConformanceServer(t *testing.T) {
	s := live.Start(t, testkit.Migrated(t), func(c *live.Config) { c.Heartbeat = time.Second })
	var out, err bytes.Buffer
	code := run(t.Context(), []string{"conformance", "server", "--url", s.URL, "--only", "revision-shape,etag-304"}, &out, &err)
	require.Equal(t, exitOK, code, out.String()+err.String())
	require.Equal(t, "ok    revision-shape\nok    etag-304\n2 cases, 2 passed, 0 failed\n", out.String())
}

func TestConformanceServer_exitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"read":{"procedure":"Read","body":{}}}`), 0o600))
	nothing := httptest.NewServer(http.NewServeMux())
	defer nothing.Close()
	readsOnly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/ListMessages") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer readsOnly.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer silent.Close()
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--list"}, exitOK, "order\n    The stream: The order is fixed"},
		{[]string{"--url", nothing.URL}, exitFailed, "the service's read, POST " + nothing.URL + "/messages.v1.MessageService/ListMessages, was answered with 404: "},
		{[]string{"--url", nothing.URL}, exitFailed, "--service FILE says which methods"},
		{[]string{"--url", readsOnly.URL}, exitFailed, "the service's write, POST " + readsOnly.URL + "/messages.v1.MessageService/CreateMessage, was answered with 403: "},
		{[]string{"--url", silent.URL, "--only", "order"}, exitFailed, "FAIL  order\n      docs/protocol.md, The stream: "},
		{[]string{"--url", "http://127.0.0.1:1", "--only", "order"}, exitFailed, "connection refused"},
		{[]string{"--url", "nowhere"}, exitFailed, `"nowhere" is no URL of a server`},
		{[]string{"--only", "nonsense"}, exitFailed, `there is no case "nonsense": --list shows them`},
		{[]string{"--service", file}, exitFailed, `isn't /package.Service/Method`},
		{[]string{"--service", file + "x"}, exitFailed, "no such file"},
		{[]string{"--patience", "long"}, exitUsage, "--patience"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), append([]string{"conformance", "server"}, tt.args...), &out, &err)
		require.Equal(t, tt.code, code, "%v: %s%s", tt.args, out.String(), err.String())
		require.Contains(t, out.String()+err.String(), tt.says)
	}
}

func TestConformanceClient(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--list"}, exitOK, "notice-refetches\n    The client rule: A request asks"},
		{[]string{"--only", "resume,topics", "python3", "examples/python/conformance.py"}, exitOK, "2 cases, 2 passed, 0 failed"},
		{[]string{"--only", "topics", "--patience", "1s", "cat"}, exitFailed, "it wrote what is no report: {\"do\":\"start\""},
		{[]string{"--only", "topics", "nobody-has-this"}, exitFailed, "executable file not found"},
		{[]string{"--only", "topics", "--adapter-url", "http://127.0.0.1:1"}, exitFailed, "the adapter: Get "},
		{[]string{"true"}, exitFailed, "true is no adapter of a client: "},
		{[]string{"true"}, exitFailed, "Wanted is a program around the client"},
		{nil, exitFailed, "one is needed: a command that starts the client's adapter, or its URL"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), append([]string{"conformance", "client"}, tt.args...), &out, &err)
		require.Equal(t, tt.code, code, "%v: %s%s", tt.args, out.String(), err.String())
		require.Contains(t, out.String()+err.String(), tt.says)
	}
}
