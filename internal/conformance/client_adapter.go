package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
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

// adapter is the client's process.
type adapter struct {
	v       *verdict
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	reading chan struct{} // closed when it says nothing more
	stderr  *tail

	mu      sync.Mutex // guards all below
	reports []report
	bad     string        // a line that is none
	news    chan struct{} // closed at the next report
}

func startAdapter(ctx context.Context, v *verdict, cfg ClientConfig) *adapter {
	a := &adapter{v: v, reading: make(chan struct{}), stderr: new(tail), news: make(chan struct{})}
	a.cmd = exec.CommandContext(ctx, cfg.Command[0], cfg.Command[1:]...)
	a.cmd.Stderr = a.stderr
	a.cmd.WaitDelay = time.Second // for children that keep its outputs
	var err error
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		v.failf("%v", err)
	}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		v.failf("%v", err)
	}
	if err := a.cmd.Start(); err != nil {
		v.failf("%v", err)
	}
	go func() {
		defer close(a.reading)
		lines := bufio.NewScanner(stdout)
		const most = 4 << 20
		lines.Buffer(nil, most)
		for lines.Scan() {
			a.hear(lines.Bytes(), cfg.reports)
		}
	}()
	return a
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

// stop ends the process: its input is over, and a moment later it is killed.
func (a *adapter) stop() {
	_ = a.stdin.Close() // it may have gone
	timer := time.AfterFunc(time.Second, func() { _ = a.cmd.Process.Kill() })
	defer timer.Stop()
	<-a.reading
	_ = a.cmd.Wait() // what it thought of its end doesn't matter
}

func (a *adapter) send(c command) {
	line, err := json.Marshal(c)
	if err == nil {
		_, err = a.stdin.Write(append(line, '\n'))
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
