package server_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// wire speaks to a server with net/http alone, as somebody would who has only
// docs/protocol.md.
type wire struct {
	t    *testing.T
	base string
	http *http.Client
}

// answer is a response to a call.
type answer struct {
	status int
	header http.Header
	code   string // Connect's, of an error
	raw    string
	body   struct {
		Code    string
		Message string
		Details []struct{ Type, Value string }
	}
}

func (w wire) do(method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(w.t), method, w.base+path, strings.NewReader(body))
	require.NoError(w.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Content-Type" {
			req.Header.Del(header[i])
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := w.http.Do(req)
	require.NoError(w.t, err)
	raw, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Body.Close())
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if resp.StatusCode >= 400 {
		require.NoError(w.t, json.Unmarshal(raw, &a.body), "an error has a JSON body: %s", raw)
		a.code = a.body.Code
	}
	return a
}

const messagesPath = "/messages.v1.MessageService/"

func (w wire) list(conversation string, header ...string) answer {
	w.t.Helper()
	return w.do(http.MethodPost, messagesPath+"ListMessages", fmt.Sprintf(`{"parent":"conversations/%s"}`, conversation), header...)
}

func (w wire) create(conversation string) answer {
	w.t.Helper()
	a := w.do(http.MethodPost, messagesPath+"CreateMessage", fmt.Sprintf(`{"parent":"conversations/%s","message":{"author":"a","body":"b"}}`, conversation))
	require.Equal(w.t, http.StatusOK, a.status, a.raw)
	return a
}

func (a answer) revision() string { return a.header.Get("Freshet-Revision") }

// detail finds an error's detail as the protocol says that it is written.
func detail[T any, P interface {
	*T
	proto.Message
}](t *testing.T, a answer, name string) P {
	t.Helper()
	for _, d := range a.body.Details {
		if d.Type == name {
			raw, err := base64.RawStdEncoding.DecodeString(d.Value)
			require.NoError(t, err)
			message := P(new(T))
			require.NoError(t, proto.Unmarshal(raw, message))
			return message
		}
	}
	require.FailNow(t, "no detail", "%s in %s", name, a.raw)
	return nil
}

// frame is one of a stream's.
type frame struct {
	event, id, data string
	retry           bool
}

// open begins a stream and returns a reader of its frames.
func (w wire) open(method, path, body string, header ...string) (next func() frame) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(testkit.Context(w.t))
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, strings.NewReader(body))
	require.NoError(w.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.http.Do(req)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = resp.Body.Close() }) // cut above
	require.Equal(w.t, http.StatusOK, resp.StatusCode)
	require.Equal(w.t, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	return func() (f frame) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "event":
				f.event = value
			case "id":
				f.id = value
			case "data":
				f.data += value
			case "retry":
				f.retry = true
			case "":
				if f.event != "" {
					return f
				}
			}
		}
		require.NoError(w.t, lines.Err())
		require.FailNow(w.t, "the stream ended")
		return f
	}
}

func events(topics ...string) string { return "/events?" + url.Values{"topic": topics}.Encode() }

// until reads frames up to the first of a kind, and returns all of them.
func until(next func() frame, event string) (all []frame) {
	for {
		all = append(all, next())
		if all[len(all)-1].event == event {
			return all
		}
	}
}

// told lists the topics of the invalidates among frames.
func told(t *testing.T, frames []frame) (topics []string) {
	t.Helper()
	for _, f := range frames {
		if f.event != "invalidate" {
			continue
		}
		var data struct {
			Revision string
			Topics   []string
		}
		require.NoError(t, json.Unmarshal([]byte(f.data), &data))
		require.Equal(t, f.id, data.Revision)
		topics = append(topics, data.Topics...)
	}
	return topics
}

func kinds(frames []frame) (events []string) {
	for _, f := range frames {
		events = append(events, f.event)
	}
	return events
}

const (
	oldEpoch  = "00000001-0000000000000001"
	newEpoch  = "ffffffff-0000000000000001"
	malformed = "6743B2C1-00000000016B3D58"
)

// future is a position of a revision's epoch that no database has reached.
func future(rev string) string { return rev[:9] + "7fffffffffffffff" }
