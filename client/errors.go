package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-dev/freshet"
)

// ErrClosed says that the server ended the stream in good order: it shuts down,
// or the connection has lived long enough.
var ErrClosed = errors.New("the server closed the stream")

// EndError says that the server ended the stream because the caller may not have it
// any longer, or not with this token. [Client.Stream] comes back, and is told by a
// status if it may not.
type EndError struct {
	// Reason is `expired` for a token, `denied` for a grant that was withdrawn.
	// There may be others.
	Reason string
}

func (e *EndError) Error() string {
	switch e.Reason {
	case "expired":
		return "the server ended the stream: the token has expired"
	case "denied":
		return "the server ended the stream: a grant was withdrawn"
	}
	return fmt.Sprintf("the server ended the stream: %q", e.Reason)
}

// StatusError is an HTTP answer that is not a stream. [Client.Stream] retries
// what can pass by itself (408, 425, 429 and 5xx, after RetryAfter if there is
// one) and returns every other as it is.
type StatusError struct {
	// Status is the HTTP status.
	Status int
	// Code is the error's code as Connect spells it (`unauthenticated`); empty
	// if the answer did not come from Freshet, but from a proxy, say.
	Code string
	// Message is the server's explanation, or the beginning of the body.
	Message string
	// Topics are those that no row can have, if the stream was refused for them: without
	// them it would begin. Nil: it wasn't.
	Topics []string
	// RetryAfter is the server's wish, rounded to seconds; 0 if it has none.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d", e.Status)
	if name := http.StatusText(e.Status); name != "" {
		text += " " + name
	}
	if e.Code != "" {
		text += ": " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Temporary reports whether the same request may succeed later.
func (e *StatusError) Temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return e.Status >= 500
	}
}

// SilenceError says that nothing came from the server, not even a heartbeat.
// The connection may be half open, or a proxy may be buffering.
type SilenceError struct {
	// After is the time that was allowed.
	After time.Duration
}

func (e *SilenceError) Error() string {
	return fmt.Sprintf("nothing heard from the server for %v", e.After)
}

// Timeout makes a SilenceError a net.Error in spirit.
func (e *SilenceError) Timeout() bool { return true }

// ProtocolError says that the server sent something that is not Freshet's
// stream, version 1.
type ProtocolError struct {
	// Event is the name of the event.
	Event string
	// Err is what is wrong with it.
	Err error
}

func (e *ProtocolError) Error() string { return fmt.Sprintf("event %q: %v", e.Event, e.Err) }
func (e *ProtocolError) Unwrap() error { return e.Err }

const eventStream = "text/event-stream"

// maxRefusal bounds what is read of a refusal, in bytes: it may name all topics of a
// request, which a server takes 1 MiB of.
const maxRefusal = 2 << 20

// checkResponse returns nil for a stream and otherwise what the server said.
// It reads, but does not close, the body.
func checkResponse(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && kind == eventStream {
		return nil
	}
	e := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if resp.StatusCode == http.StatusOK {
		// As WHATWG has it for an EventSource: another content type is final.
		e.Message = fmt.Sprintf("content type %q is not %s: is this Freshet's address?", kind, eventStream)
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	var said struct {
		Code, Message string
		Topics        []string
	}
	if json.Unmarshal(body, &said) == nil && (said.Code != "" || said.Message != "") {
		e.Code, e.Message = said.Code, said.Message
		// Whoever prints them relies on this, as with those of an Invalidate.
		e.Topics = slices.DeleteFunc(said.Topics, func(topic string) bool { return freshet.CheckTopic(topic) != nil })
	} else {
		e.Message = firstLine(body)
	}
	return e
}

// firstLine shortens a body that is not ours for an error message.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(body), "")), "\n")
	const limit = 200
	if len(line) > limit {
		line = strings.ToValidUTF8(line[:limit], "") + "…"
	}
	return line
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3): seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, date.Sub(now).Round(time.Second))
	}
	return 0
}
