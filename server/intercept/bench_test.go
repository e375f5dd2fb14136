package intercept

import (
	"bytes"
	"context"
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
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
)

// page is a service whose ListMessages answers a page of 50.
type page struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	response *messagesv1.ListMessagesResponse
}

func newPage() *page {
	p := &page{response: &messagesv1.ListMessagesResponse{}}
	for i := range 50 {
		p.response.Messages = append(p.response.Messages, &messagesv1.Message{
			Name: fmt.Sprintf("conversations/7/messages/01890a5d-ac96-774b-bcce-b3020000%04d", i), Author: "ada", Body: strings.Repeat("words ", 20),
			CreateTime: timestamppb.New(time.Unix(1_700_000_000, 1000)), UpdateTime: timestamppb.New(time.Unix(1_700_000_000, 1000)),
			Etag: "4c582e82-d7c8-4327-8bd8-ac4e074232f9",
		})
	}
	return p
}

func (p *page) ListMessages(context.Context, *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	return connect.NewResponse(p.response), nil
}

// discard is a response that nobody reads.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// BenchmarkKept is what a kept answer of 50 messages costs in the handler, with and
// without a span, beside one that writes the same bytes.
//
//	go test ./server/intercept -run '^$' -bench Kept
func BenchmarkKept(b *testing.B) {
	h := hub.New(hub.Config{})
	h.Begin(at(50))
	h.Serve(at(100))
	h.Current(time.Now().Add(time.Hour))
	program := messageService()
	rows, err := program.Sources()[0].Bind([]uint32{contract.TypeOID("text"), contract.TypeOID("uuid")})
	require.NoError(b, err)
	spelling := program.Spelling(rows)
	serve := func(tracing *Tracing) http.Handler {
		path, handler := messagesv1connect.NewMessageServiceHandler(newPage(), Options(Config{
			Contract: program, Spelling: func() *contract.Spelling { return spelling }, Hub: h, Primary: &primary{insert: at(200)}, Settler: &settler{},
			Logger: slog.New(slog.DiscardHandler), Tracing: tracing,
		})...)
		mux := http.NewServeMux()
		mux.Handle(path, handler)
		return mux
	}
	mux := serve(nil)
	tracing, err := NewTracing(sdktrace.NewTracerProvider(sdktrace.WithBatcher(tracetest.NewNoopExporter())), false)
	require.NoError(b, err)
	traced := serve(tracing)
	for _, form := range []struct{ contentType, encoding, body string }{
		{"application/json", "", `{"parent":"conversations/7"}`},
		{"application/proto", "", "\x0a\x0fconversations/7"},
		{"application/json", "gzip", `{"parent":"conversations/7"}`},
	} {
		ask := func(w http.ResponseWriter, to http.Handler) {
			req := httptest.NewRequest(http.MethodPost, messagesv1connect.MessageServiceListMessagesProcedure, strings.NewReader(form.body))
			req.Header.Set("Content-Type", form.contentType)
			req.Header.Set(HeaderAtLeast, freshet.Revision{Epoch: epoch, Position: 100}.String())
			if form.encoding != "" {
				req.Header.Set("Accept-Encoding", form.encoding)
			}
			to.ServeHTTP(w, req)
		}
		first := httptest.NewRecorder()
		ask(first, mux)
		require.Equal(b, http.StatusOK, first.Code, first.Body.String())
		same := first.Body.Bytes()
		static := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", form.contentType)
			_, _ = io.Copy(w, bytes.NewReader(same))
		})
		for name, to := range map[string]http.Handler{"kept": mux, "traced": traced, "static": static} {
			b.Run(strings.TrimPrefix(form.contentType, "application/")+form.encoding+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(same)))
				for b.Loop() {
					w := &discard{header: http.Header{}}
					ask(w, to)
					if w.bytes != len(same) {
						b.Fatalf("%d bytes, not %d", w.bytes, len(same))
					}
				}
			})
		}
	}
}
