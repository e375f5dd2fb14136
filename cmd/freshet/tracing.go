package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// openTracing returns what spans go to, if the environment says where: by
// OpenTelemetry's own variables (its specification, "Environment Variable
// Specification" and "OpenTelemetry Protocol Exporter"), which its SDK reads. Nil:
// nothing is traced. It connects to nobody yet. The caller shuts it down.
func openTracing(ctx context.Context, logger *slog.Logger, slot string) (*sdktrace.TracerProvider, error) {
	if !isTraced(os.Getenv) {
		return nil, nil //nolint:nilnil // as documented
	}
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, &settingsError{fmt.Errorf("OTEL_TRACES_EXPORTER=%q: this program has otlp and none", exporter)}
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))
	if protocol != "" && protocol != "http/protobuf" {
		return nil, &settingsError{fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%q: this program speaks http/protobuf (port 4318, as a rule)", protocol)}
	}
	quiet := &seldomHandler{logger: logger}
	otel.SetErrorHandler(quiet) // a collector that is down must not fill the log
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "freshet"), attribute.String("service.version", strings.Fields(version())[1]), attribute.String("service.instance.id", slot)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES: the last word
	)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

// isTraced reports whether the environment wants traces, and says where.
func isTraced(env func(string) string) bool {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || env("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" || env("OTEL_TRACES_EXPORTER") != ""
}

// seldomHandler logs errors of the SDK, one in ten seconds.
type seldomHandler struct {
	logger *slog.Logger
	mu     sync.Mutex
	next   time.Time // until then none
	unsaid int
}

// Handle implements otel.ErrorHandler.
func (h *seldomHandler) Handle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Before(h.next) {
		h.unsaid++
		return
	}
	h.next = now.Add(10 * time.Second)
	h.logger.Warn("traces can't be sent", "error", err, "unsaid", h.unsaid)
	h.unsaid = 0
}
