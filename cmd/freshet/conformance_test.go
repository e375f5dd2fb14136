package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	nothing := httptest.NewServer(nil)
	defer nothing.Close()
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--list"}, exitOK, "order\n    The stream: The order is fixed"},
		{[]string{"--url", nothing.URL, "--only", "order"}, exitFailed, "FAIL  order\n      docs/protocol.md, The stream: "},
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
		{nil, exitFailed, "one is needed: a command that starts the client's adapter, or its URL"},
	} {
		var out, err bytes.Buffer
		code := run(t.Context(), append([]string{"conformance", "client"}, tt.args...), &out, &err)
		require.Equal(t, tt.code, code, "%v: %s%s", tt.args, out.String(), err.String())
		require.Contains(t, out.String()+err.String(), tt.says)
	}
}
