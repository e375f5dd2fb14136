package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// command is a line to the adapter.
type command struct {
	Do      string  `json:"do"` // start, write
	URL     string  `json:"url,omitempty"`
	Queries []query `json:"queries,omitempty"`

	// Of write: a mutation, and the queries that it is known to touch.
	Procedure string   `json:"procedure,omitempty"`
	Request   any      `json:"request,omitempty"`
	Touches   []string `json:"touches,omitempty"`
}

// report is a line of the adapter: what the client shows for a query.
type report struct {
	Query string          `json:"query"`
	Data  json.RawMessage `json:"data"`  // the answer; null: none
	Error string          `json:"error"` // the code, if the answer is an error
	Stale bool            `json:"stale"` // the client doesn't take it as fresh
}

func (r report) shown() string {
	if r.Error != "" {
		return r.Error
	}
	return string(r.Data)
}

// adapter is the client's process, or a client behind a URL.
type adapter struct {
	v       *verdict
	write   func(line []byte) error
	end     func() // of what it follows; then it says nothing more
	reading chan struct{}
	stderr  *tail

	mu      sync.Mutex // guards all below
	reports []report
	bad     string        // a line that is none
	news    chan struct{} // closed at the next report
}

func startAdapter(ctx context.Context, v *verdict, cfg ClientConfig) *adapter {
	a := &adapter{v: v, reading: make(chan struct{}), stderr: new(tail), news: make(chan struct{})}
	var reports io.Reader
	var err error
	if cfg.URL != "" {
		reports, err = a.dial(ctx, cfg.URL)
	} else {
		reports, err = a.run(ctx, cfg.Command)
	}
	if err != nil {
		v.failf("the adapter: %v", err)
	}
	go func() {
		defer close(a.reading)
		lines := bufio.NewScanner(reports)
		const most = 4 << 20
		lines.Buffer(nil, most)
		for lines.Scan() {
			a.hear(lines.Bytes(), cfg.reports)
		}
	}()
	return a
}

// run starts a process.
func (a *adapter) run(ctx context.Context, command []string) (reports io.Reader, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = a.stderr
	cmd.WaitDelay = time.Second // for children that keep its outputs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if reports, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	a.write = func(line []byte) error {
		_, err := stdin.Write(line)
		return err
	}
	a.end = func() { // its input is over, and a moment later it is killed
		_ = stdin.Close() // it may have gone
		timer := time.AfterFunc(time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		<-a.reading
		_ = cmd.Wait() // what it thought of its end doesn't matter
	}
	return reports, cmd.Start()
}

// dial begins a session at a URL: GET answers with what the client shows, as long as the
// session lasts, and each POST brings a command.
func (a *adapter) dial(ctx context.Context, address string) (reports io.Reader, err error) {
	session, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	query := session.Query()
	query.Set("session", strconv.FormatUint(rand.Uint64(), 36))
	session.RawQuery = query.Encode()
	ctx, cancel := context.WithCancel(ctx)
	a.v.cleanup(cancel)
	shown, err := a.ask(ctx, http.MethodGet, session.String(), nil)
	if err != nil {
		return nil, err
	}
	a.write = func(line []byte) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		taken, err := a.ask(ctx, http.MethodPost, session.String(), line)
		if err != nil {
			return err
		}
		return taken.Close()
	}
	a.end = func() {
		cancel()
		_ = shown.Close() // it is over
		<-a.reading
	}
	return shown, nil
}

// ask sends a request of a session, and returns the body of its answer.
func (*adapter) ask(ctx context.Context, method, address string, line []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(line))
	if err != nil {
		return nil, err
	}
	if line != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		_ = resp.Body.Close() // it doesn't matter what is in it
		return nil, fmt.Errorf("%s was answered with %s", method, resp.Status)
	}
	return resp.Body, nil
}

func (a *adapter) hear(line []byte, change func(*report) bool) {
	var r report
	err := json.Unmarshal(line, &r)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil || r.Query == "":
		a.bad = string(line)
	case change != nil && !change(&r):
		return
	default:
		a.reports = append(a.reports, r)
	}
	close(a.news)
	a.news = make(chan struct{})
}

// stop ends it.
func (a *adapter) stop() { a.end() }

func (a *adapter) send(c command) {
	line, err := json.Marshal(c)
	if err == nil {
		err = a.write(append(line, '\n'))
	}
	if err != nil {
		a.v.failf("the adapter takes no commands: %v; %s", err, a.summary())
	}
}

// watch returns what is closed when there is news.
func (a *adapter) watch() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.news
}

func (a *adapter) last(name string) (r report, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.reports {
		if one.Query == name {
			r, ok = one, true
		}
	}
	return r, ok
}

func (a *adapter) ever(name, value string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.reports {
		if one.Query == name && strings.Contains(one.shown(), value) {
			return true
		}
	}
	return false
}

// summary is what the adapter said last.
func (a *adapter) summary() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	if len(a.reports) == 0 {
		b.WriteString("the adapter said nothing")
	} else {
		r := a.reports[len(a.reports)-1]
		fmt.Fprintf(&b, "the adapter said last %s: %.200s, stale %t", r.Query, r.shown(), r.Stale)
	}
	if a.bad != "" {
		fmt.Fprintf(&b, "; it wrote what is no report: %.200s", a.bad)
	}
	if errors := a.stderr.String(); errors != "" {
		fmt.Fprintf(&b, "; on standard error: %s", errors)
	}
	return b.String()
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 600
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = bytes.Clone(t.text[max(0, len(t.text)-most):])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
