package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// OpenTelemetry's own variables decide, and what this program doesn't do is said.
func TestTracing_environment(t *testing.T) {
	const at = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for name, tt := range map[string]struct {
		env  map[string]string
		on   bool
		fail string
	}{
		"none":             {},
		"an endpoint":      {env: map[string]string{at: "http://127.0.0.1:1"}, on: true},
		"one for traces":   {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, on: true},
		"the exporter":     {env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, on: true},
		"disabled":         {env: map[string]string{at: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"}},
		"no traces":        {env: map[string]string{at: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}},
		"another exporter": {env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, fail: "otlp and none"},
		"gRPC":             {env: map[string]string{at: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, fail: "http/protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			traces, err := openTracing(testkit.Context(t), testkit.Logger(t), "freshet")
			if tt.fail != "" {
				require.ErrorContains(t, err, tt.fail)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.on, traces != nil)
			if traces != nil {
				require.NoError(t, traces.Shutdown(testkit.Context(t)))
			}
		})
	}
}

// A collector that is down doesn't fill the log.
func TestTracing_errorsAreSeldom(t *testing.T) {
	var log bytes.Buffer
	h := &seldomHandler{logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 100 {
		h.Handle(errors.New("connection refused"))
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
}
