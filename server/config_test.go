package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

func TestNew_refuses(t *testing.T) {
	good := live.MessageConfig(server.Config{DatabaseURL: "postgres://x"})
	_, err := server.New(good)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"no database":     {func(c *server.Config) { c.DatabaseURL = "" }, "no database URL"},
		"a malformed URL": {func(c *server.Config) { c.DatabaseURL = "postgres://user:secret@%zz" }, "database URL"},
		"another one":     {func(c *server.Config) { c.CaptureURL = "postgres://user:secret@%zz" }, "database URL"},
		"a replica's":     {func(c *server.Config) { c.ReplicaURLs = []string{"postgres://user:secret@%zz"} }, "ReplicaURLs"},
		"no service":      {func(c *server.Config) { c.Services = nil }, "a service to serve"},
		"no such service": {func(c *server.Config) { c.ServiceNames = []string{"nobody.v1.NoService"} }, `generated code is linked in (tasksv1connect.TaskServiceName, say), not "nobody.v1.NoService"`},
		"a message":       {func(c *server.Config) { c.ServiceNames = []string{"messages.v1.Message"} }, `not "messages.v1.Message"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := server.New(cfg)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// Services may be given by their names, as generated code says them.
func TestNew_serviceNames(t *testing.T) {
	_, err := server.New(server.Config{DatabaseURL: "postgres://x", ServiceNames: []string{messagesv1connect.MessageServiceName}})
	require.NoError(t, err)
}

// F81: what makes no sense is refused with the name of its field, and what would.
func TestNew_F81_nonsense(t *testing.T) {
	for field, tt := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"Heartbeat":         {func(c *server.Config) { c.Heartbeat = 1 }, "a value from 100ms to 1h0m0s"},
		"Throttle":          {func(c *server.Config) { c.Throttle = 11 * time.Second }, "a value from 1ms to 10s"},
		"MaxWait":           {func(c *server.Config) { c.MaxWait = 1 }, "a value from 1ms to 1h0m0s"},
		"MaxLag":            {func(c *server.Config) { c.MaxLag = server.None }, ""},
		"ReplayWindow":      {func(c *server.Config) { c.ReplayWindow = server.None }, ""},
		"ReplayWindowBytes": {func(c *server.Config) { c.ReplayWindowBytes = server.None }, ""},
		"ProbeInterval":     {func(c *server.Config) { c.ProbeInterval = 1 }, ""},
		"MaxStreams":        {func(c *server.Config) { c.MaxStreams = server.None }, ""},
		"MaxTopics":         {func(c *server.Config) { c.MaxTopics = server.None }, ""},
		"MaxStreamTopics":   {func(c *server.Config) { c.MaxStreamTopics = server.None }, ""},
		"MaxTopicBytes":     {func(c *server.Config) { c.MaxTopicBytes = 1 }, ""},
		"WriteTimeout":      {func(c *server.Config) { c.WriteTimeout = server.None }, ""},
		"MaxRequestBytes":   {func(c *server.Config) { c.MaxRequestBytes = 1 }, ""},
		"MaxConns":          {func(c *server.Config) { c.MaxConns = -1 }, ""},
		"ReplicaConns":      {func(c *server.Config) { c.ReplicaConns = -1 }, ""},
		"ReplicaWait":       {func(c *server.Config) { c.ReplicaWait = server.None }, "a value from 1ms to 1m0s"},
		"ReplicaURLs":       {func(c *server.Config) { c.ReplicaURLs = []string{"postgres://h", "host=h user=x"} }, "h:5432 is there twice"},
		"NATSURLs":          {func(c *server.Config) { c.NATSURLs = []string{"127.0.0.1:4222"} }, "nats://host:4222"},
		"NATSFallback":      {func(c *server.Config) { c.NATSFallback = true }, "no server of NATS"},
		"Publication":       {func(c *server.Config) { c.Publication = "1st" }, "the first no digit"},
		"DBRoleClaim":       {func(c *server.Config) { c.DBRoleClaim = "role" }, "authenticated"},
		"DBAnonymousRole":   {func(c *server.Config) { c.DBAnonymousRole = "guest" }, ""},
		"Slot":              {func(c *server.Config) { c.Slot = "Freshet-1" }, "lower-case"},
	} {
		t.Run(field, func(t *testing.T) {
			cfg := live.MessageConfig(server.Config{DatabaseURL: "postgres://x"})
			tt.change(&cfg)
			_, err := server.New(cfg)
			var said *server.ConfigError
			require.ErrorAs(t, err, &said)
			require.Equal(t, field, said.Field)
			require.Contains(t, said.Want, tt.want)
		})
	}
	_, err := server.New(live.MessageConfig(server.Config{DatabaseURL: "postgres://x", MaxWait: 1, MaxLag: server.None}))
	require.ErrorContains(t, err, "server.Config.MaxWait: want a value from 1ms to 1h0m0s, or None")
	require.ErrorContains(t, err, "server.Config.MaxLag: want a value from 100ms to 24h0m0s")
	_, err = server.New(live.MessageConfig(server.Config{DatabaseURL: "postgres://x", Slot: strings.Repeat("s", 55)}))
	require.ErrorContains(t, err, "server.Config.Slot: want 1 to 54 lower-case letters")
	_, err = server.New(live.MessageConfig(server.Config{
		DatabaseURL: "postgres://x", MaxWait: server.None, MaxSettle: server.None, Throttle: server.None,
		ReadInterval: server.None, Linger: server.None, CacheBytes: server.None, Drain: server.None, MaxStreamsPerCaller: server.None,
	}))
	require.NoError(t, err)
}
