package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// shape of a revision.
var shape = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{16}$`)

// answer is a response that has ended.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	raw     string
	failed  struct { // of an error over HTTP
		Code    string
		Message string
		Details []struct{ Type, Value string }
	}
}

func (a answer) stamp() string { return a.header.Get("Freshet-Revision") }

func (a answer) String() string {
	return fmt.Sprintf("with %d: %.300s", a.status, strings.TrimSpace(a.raw))
}

// do sends a request over HTTP/1.1 and reads the whole answer.
func (t *trial) do(method, path, body string, header ...string) answer {
	return t.doBy(t.one, method, path, body, header...)
}

func (t *trial) doBy(by *http.Client, method, path, body string, header ...string) answer {
	ctx, cancel := context.WithTimeout(t.ctx, t.patience)
	defer cancel()
	resp, err := by.Do(t.request(ctx, method, path, body, header))
	if err != nil {
		t.failf("%v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	const most = 16 << 20
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		t.failf("the answer to %s %.200s ends early: %v", method, path, err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, trailer: resp.Trailer, raw: string(raw)}
	if a.status >= http.StatusBadRequest {
		_ = json.Unmarshal(raw, &a.failed) // who looks at it finds it empty
	}
	return a
}

func (t *trial) request(ctx context.Context, method, path, body string, header []string) *http.Request {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, content)
	if err != nil {
		t.failf("%v", err)
	}
	for name, values := range t.header {
		req.Header[name] = values
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// detail reads an error's detail into m, and says whether there is one of its type.
func (t *trial) detail(a answer, m proto.Message) bool {
	want := string(m.ProtoReflect().Descriptor().FullName())
	for _, d := range a.failed.Details {
		if d.Type != want {
			continue
		}
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(d.Value, "="))
		if err == nil {
			err = proto.Unmarshal(raw, m)
		}
		t.needf(err == nil, "the detail %s can't be read: %v", want, err)
		return true
	}
	return false
}

// envelope puts a message behind five bytes of flags and length, as gRPC and Connect's
// streams do.
func envelope(message string) string {
	n := len(message)
	return string([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + message
}

// unpack takes the first message off. Of what is cut, ok is false.
func unpack(raw []byte) (flags byte, message, rest []byte, ok bool) {
	const prefix = 5
	if len(raw) < prefix {
		return 0, nil, nil, false
	}
	n := int(raw[1])<<24 | int(raw[2])<<16 | int(raw[3])<<8 | int(raw[4])
	if len(raw) < prefix+n {
		return 0, nil, nil, false
	}
	return raw[0], raw[prefix : prefix+n], raw[prefix+n:], true
}

// frame is a block of an event stream.
type frame struct {
	event, id, retry, data string
	size                   int // of the block, in bytes
	at                     time.Time
}

// content is what the data of events says.
type content struct {
	Revision  string   `json:"revision"`
	Topics    any      `json:"topics"`
	Heartbeat float64  `json:"heartbeat_ms"`
	Lag       *float64 `json:"lag_ms"`
}

func (f frame) String() string {
	return fmt.Sprintf("event %q, id %q, data %.300q", f.event, f.id, f.data)
}

// content reads the data of a frame.
func (t *trial) content(f frame) (c content) {
	if err := json.Unmarshal([]byte(f.data), &c); err != nil {
		t.failf("the data is no JSON object: %s", f)
	}
	return c
}

// topics are those of a notice.
func (t *trial) topics(f frame) (topics []string) {
	list, ok := t.content(f).Topics.([]any)
	t.needf(ok, "a notice without a list of topics: %s", f)
	for _, one := range list {
		topic, ok := one.(string)
		t.needf(ok, "a topic that is no string: %s", f)
		topics = append(topics, topic)
	}
	return topics
}

// split takes the first block off: bytes up to an empty line. The ends of lines are LF,
// CR or CRLF.
func split(raw []byte) (block, rest []byte, ok bool) {
	end := -1
	for _, mark := range []string{"\n\n", "\r\r", "\r\n\r\n"} {
		if at := bytes.Index(raw, []byte(mark)); at >= 0 && (end < 0 || at+len(mark) < end) {
			end = at + len(mark)
		}
	}
	if end < 0 {
		return nil, raw, false
	}
	return raw[:end], raw[end:], true
}

// parse reads a block.
func parse(block []byte) frame {
	f := frame{size: len(block), at: time.Now()}
	var data []string
	for line := range strings.FieldsFuncSeq(string(block), func(r rune) bool { return r == '\n' || r == '\r' }) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			f.event = value
		case "id":
			f.id = value
		case "retry":
			f.retry = value
		case "data":
			data = append(data, value)
		}
	}
	f.data = strings.Join(data, "\n")
	return f
}
