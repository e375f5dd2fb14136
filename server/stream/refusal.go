package stream

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

// refusal is why a stream doesn't start, in words for the client.
type refusal struct {
	status     int
	code       connect.Code
	reason     string // metrics label
	message    string
	details    []*connect.ErrorDetail
	topics     []string // those at fault: without them it would start
	retryAfter time.Duration
}

func (r *refusal) Error() string { return r.message }

func badRequest(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: connect.CodeInvalidArgument, reason: "bad_request", message: fmt.Sprintf(format, args...)}
}

func tooLarge(reason, format string, args ...any) *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, code: connect.CodeResourceExhausted, reason: reason, message: fmt.Sprintf(format, args...)}
}

func tooMany(reason, message string) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: connect.CodeResourceExhausted, reason: reason, message: message, retryAfter: time.Second}
}

func notReady(message string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: connect.CodeUnavailable, reason: "not_ready", message: message, retryAfter: time.Second}
}

func internal() *refusal {
	return &refusal{status: http.StatusInternalServerError, code: connect.CodeInternal, reason: "internal", message: "internal error"}
}

// checkTopics refuses topics that can't be told. It says why of the first, and names all.
func (s *Server) checkTopics(topics []string) (refused *refusal) {
	for _, topic := range topics {
		err := s.config.CheckTopic(topic)
		if err == nil {
			continue
		}
		if refused == nil {
			refused = badRequest("%s", err.Message())
			refused.details = err.Details()
		}
		refused.topics = append(refused.topics, topic)
	}
	return refused
}

// unauthorized turns what Authorize returned into a refusal.
func unauthorized(err error) *refusal {
	var known *connect.Error
	if !errors.As(err, &known) {
		return internal()
	}
	r := &refusal{code: known.Code(), message: known.Message()}
	switch known.Code() {
	case connect.CodeUnauthenticated:
		r.status, r.reason = http.StatusUnauthorized, "unauthenticated"
	case connect.CodePermissionDenied:
		r.status, r.reason = http.StatusForbidden, "permission_denied"
	case connect.CodeUnavailable:
		return notReady(known.Message())
	case connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return notReady("the caller has gone away")
	default:
		return internal()
	}
	return r
}

// write answers an HTTP request, with a body in the form of Connect's errors.
func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((r.retryAfter+time.Second-1)/time.Second)))
	}
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(r.status)
	type detail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	var details []detail
	for _, d := range r.details {
		details = append(details, detail{d.Type(), base64.RawStdEncoding.EncodeToString(d.Bytes())})
	}
	body, err := json.Marshal(struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Details []detail `json:"details,omitempty"`
		Topics  []string `json:"topics,omitempty"`
	}{r.code.String(), r.message, details, r.topics})
	if err == nil { // strings always marshal
		_, _ = w.Write(append(body, '\n'))
	}
}

// connect returns the refusal as an RPC's error.
func (r *refusal) connect() error {
	err := connect.NewError(r.code, errors.New(r.message))
	for _, detail := range r.details {
		err.AddDetail(detail)
	}
	if r.retryAfter > 0 {
		if detail, detailErr := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)}); detailErr == nil {
			err.AddDetail(detail)
		}
	}
	return err
}
