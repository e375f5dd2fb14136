package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store"
)

func TestTranslate(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	secret := errors.New(`ERROR: relation "secret" does not exist (SQLSTATE 42P01)`)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want connect.Code
		text string
	}{
		{"coded", t.Context(), connect.NewError(connect.CodeAborted, errors.New("etag")), connect.CodeAborted, "etag"},
		{"coded, wrapped", t.Context(), fmt.Errorf("secret: %w", connect.NewError(connect.CodeAborted, errors.New("etag"))), connect.CodeAborted, "etag"},
		{"coded internal", t.Context(), connect.NewError(connect.CodeInternal, secret), connect.CodeInternal, "internal error"},
		{"coded unknown", t.Context(), connect.NewError(connect.CodeUnknown, secret), connect.CodeInternal, "internal error"},
		{"anything", t.Context(), secret, connect.CodeInternal, "internal error"},
		{"not found", t.Context(), fmt.Errorf("secret: %w", store.ErrNotFound), connect.CodeNotFound, "not found"},
		{"epoch", t.Context(), fmt.Errorf("secret: %w", store.ErrEpoch), connect.CodeUnavailable, "another history"},
		{"unavailable", t.Context(), fmt.Errorf("%w: %w", store.ErrUnavailable, secret), connect.CodeUnavailable, "can't be asked"},
		{"no epoch", t.Context(), fmt.Errorf("%w: %w", store.ErrNoEpoch, secret), connect.CodeUnavailable, "no node has followed the database"},
		{"conflict", t.Context(), fmt.Errorf("%w: %w", store.ErrConflict, secret), connect.CodeUnavailable, "lost to concurrent"},
		{"commit unknown", t.Context(), fmt.Errorf("%w: %w", store.ErrCommitUnknown, secret), connect.CodeUnknown, "may or may not"},
		{"commit unknown, too late", late, fmt.Errorf("%w: %w", store.ErrCommitUnknown, late.Err()), connect.CodeDeadlineExceeded, "may or may not"},
		{"commit unknown, gone", gone, fmt.Errorf("%w: %w", store.ErrCommitUnknown, gone.Err()), connect.CodeCanceled, "may or may not"},
		{"read-only", t.Context(), fmt.Errorf("%w: %w", store.ErrReadOnly, secret), connect.CodeUnavailable, "try again later"},
		{"busy", t.Context(), fmt.Errorf("%w: %w", store.ErrBusy, secret), connect.CodeUnavailable, "in use by others"},
		{"unique", t.Context(), fmt.Errorf("secret: %w", &store.ConstraintError{Kind: store.Unique}), connect.CodeAlreadyExists, "conflicts"},
		{"foreign key", t.Context(), &store.ConstraintError{Kind: store.ForeignKey}, connect.CodeFailedPrecondition, "needs"},
		{"check", t.Context(), &store.ConstraintError{Kind: store.Check}, connect.CodeInvalidArgument, "can't be stored"},
		{"not serving", t.Context(), hub.ErrNotServing, connect.CodeUnavailable, "not caught up"},
		{"later epoch", t.Context(), &hub.EpochError{Current: 9}, connect.CodeFailedPrecondition, "has ended"},
		{"caller gone", gone, fmt.Errorf("%w: %w", context.Canceled, secret), connect.CodeCanceled, "gone away"},
		{"deadline", late, fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), connect.CodeDeadlineExceeded, "deadline"},
		{"a deadline of our own", t.Context(), fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), connect.CodeUnavailable, "can't be asked"},
		{"audit", t.Context(), &AuditError{"/p.S/M", "public.t", "no source"}, connect.CodeInternal, "/p.S/M reads table public.t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := translate(tt.ctx, tt.err)
			require.Equal(t, tt.want, got.Code())
			require.Contains(t, got.Message(), tt.text)
			require.NotContains(t, got.Message(), "secret")
		})
	}
}

func TestRespond_logsWhatItHides(t *testing.T) {
	r := newRig(t, nil)
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return nil, errors.New("the secret reason")
	}
	req := getRequest()
	req.Header().Set(HeaderRequestID, "my-request-1")
	_, err := r.client.GetMessage(t.Context(), req)
	requireCode(t, connect.CodeInternal, err)
	require.Equal(t, "internal: internal error", err.Error())
	require.Equal(t, "my-request-1", errorHeader(t, err, HeaderRequestID))
	require.Contains(t, r.log.String(), "the secret reason")
	require.Contains(t, r.log.String(), "my-request-1")
	require.Contains(t, r.log.String(), "/messages.v1.MessageService/GetMessage")
}

func TestRequestID_replacesWhatCouldHarmALog(t *testing.T) {
	r := newRig(t, nil)
	for _, id := range []string{"", "a b", "x\ty", strings.Repeat("x", 65)} {
		req := getRequest()
		req.Header().Set(HeaderRequestID, id)
		resp, err := r.client.GetMessage(t.Context(), req)
		require.NoError(t, err)
		require.NotEqual(t, id, resp.Header().Get(HeaderRequestID))
		require.True(t, isHarmless(resp.Header().Get(HeaderRequestID)))
	}
}

// A panic is an internal error.
func TestRecover(t *testing.T) {
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		r := newRig(t, nil, options...)
		r.handlers.remove = func(context.Context) error { panic("the secret value") }
		_, err := r.client.DeleteMessage(t.Context(), deleteRequest())
		requireCode(t, connect.CodeInternal, err)
		require.Equal(t, "internal: internal error", err.Error())
		require.Contains(t, r.log.String(), "the secret value")
		require.Contains(t, r.log.String(), "errors_test.go", "the stack")
	})
}

// F87: a stamp is on what says something about data. A client keeps what is
// stamped: "unavailable, as of this revision" would be shown until the next
// change.
func TestRespond_F87_stampsAreOnAnswers(t *testing.T) {
	stamped := map[connect.Code]bool{
		connect.CodeNotFound: true, connect.CodeAlreadyExists: true, connect.CodePermissionDenied: true,
		connect.CodeFailedPrecondition: true, connect.CodeAborted: true, connect.CodeOutOfRange: true,
	}
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		r := newRig(t, func(c *Config) { c.MaxSettle = time.Millisecond }, options...)
		for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
			fail := connect.NewError(code, errors.New("said by the handler"))
			r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) { return nil, fail }
			r.handlers.remove = func(context.Context) error { return fail }
			for _, atLeast := range [][]string{nil, {at(90).String()}} {
				stamp, err := r.get(t, atLeast...)
				require.Error(t, err)
				require.Equal(t, stamped[code], stamp != "", "a read, %v: %q", code, stamp)
			}
			asked := r.primary.statements()
			_, err := r.client.DeleteMessage(t.Context(), deleteRequest())
			stamp := errorHeader(t, err, HeaderRevision)
			require.Equal(t, stamped[code], stamp != "", "a write, %v: %q", code, stamp)
			require.Equal(t, stamped[code], r.primary.statements() > asked, "%v is settled", code)
		}
		r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) { return nil, store.ErrUnavailable }
		stamp, err := r.get(t)
		requireCode(t, connect.CodeUnavailable, err)
		require.Empty(t, stamp)
	})
}

// Decode errors never reach an interceptor; Connect's own text names Go types.
func TestCodecs_nameNoGoTypes(t *testing.T) {
	r := newRig(t, nil)
	for _, tt := range []struct{ contentType, body, want string }{
		{"application/json", `{"name": 5}`, "invalid value for string field name"},
		{"application/json", `{`, "unexpected"},
		{"application/json", ``, "an empty body is not a JSON object"},
		{"application/json; charset=utf-8", `[]`, "unexpected token"},
		{"application/proto", "\xff\xff", "cannot parse"},
		{"application/proto", "\x0a\x02\xff\xff", "invalid UTF-8"},
	} {
		resp, err := r.http.Post(r.url+messagesv1connect.MessageServiceGetMessageProcedure, tt.contentType, strings.NewReader(tt.body))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		text := strings.ReplaceAll(string(body), "\u00a0", " ")
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, text)
		require.Contains(t, text, `"code":"invalid_argument"`)
		require.Contains(t, text, "messages.v1.GetMessageRequest")
		require.Contains(t, text, tt.want)
		require.NotContains(t, text, "*messagesv1", text)
		require.NotContains(t, text, "unmarshal into")
	}
}

func TestCodecs_ignoreUnknownFields(t *testing.T) {
	r := newRig(t, nil)
	resp, err := r.http.Post(r.url+messagesv1connect.MessageServiceGetMessageProcedure, "application/json",
		strings.NewReader(`{"name": "`+name+`", "new_field": 1}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestValidate_namesTheField(t *testing.T) {
	r := newRig(t, nil)
	req := connect.NewRequest(&messagesv1.GetMessageRequest{Name: strings.ToUpper(name)})
	_, err := r.client.GetMessage(t.Context(), req)
	requireCode(t, connect.CodeInvalidArgument, err)
	var cerr *connect.Error
	require.ErrorAs(t, err, &cerr)
	require.Len(t, cerr.Details(), 1)
	require.Equal(t, "buf.validate.Violations", cerr.Details()[0].Type())
}

func TestProcedures_unknownOnesAreRPCErrors(t *testing.T) {
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		r := newRig(t, nil)
		for _, procedure := range []string{"/messages.v1.MessageService/Nothing", "/nothing.v1.Nothing/Get"} {
			client := connect.NewClient[messagesv1.GetMessageRequest, messagesv1.GetMessageResponse](r.http, r.url+procedure, options...)
			_, err := client.CallUnary(t.Context(), getRequest())
			requireCode(t, connect.CodeUnimplemented, err)
			require.Contains(t, err.Error(), procedure)
		}
	})
	for _, path := range []string{"/", "/events", "/assets/index.js", "/a.b/", "/a..b/C", "/app.v1/index.html", "/a.b/c/d"} {
		require.False(t, isProcedure(path), path)
	}
}

func TestAuditCall(t *testing.T) {
	program := messageService()
	list := program.Method(messagesv1connect.MessageServiceListMessagesProcedure)
	require.Nil(t, auditCall(program, list, nil))
	require.Nil(t, auditCall(program, list, []string{"freshet.incarnation", "pg_catalog.pg_class", "public.messages"}))
	err := auditCall(program, list, []string{"public.messages", "public.users"})
	require.ErrorContains(t, err, "/messages.v1.MessageService/ListMessages reads table public.users")
	var audit *AuditError
	require.ErrorAs(t, err, &audit)
	require.Equal(t, "public.users", audit.Table)
}
