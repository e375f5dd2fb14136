package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
)

const (
	pathPatience = 10 * time.Second      // for whatever should come at once
	pathLate     = 50 * time.Millisecond // from which a frame is late: ten times what a busy server takes
	pathTries    = 3                     // streams whose first frame is timed; the best counts
	pathBeats    = 2                     // heartbeats that are waited for
)

// path is the way from here to a server, and what it does to a stream.
type path struct {
	base     string
	topic    string
	token    string    // empty: none
	out      io.Writer // findings
	progress io.Writer
	client   *http.Client
	problems int
}

// examinePath asks the server at --url, writes what it finds, and how it goes on
// beside. It takes two and a half heartbeats at most, and some seconds. The error
// is errFindings if something is to be mended.
func (c *doctorCmd) examinePath(ctx context.Context, to streams) error {
	base, token, err := c.target()
	if err != nil {
		return err
	}
	// Compression is asked for, to see who compresses, and not undone.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	p := &path{
		base: base, topic: c.Topic, token: token,
		out: to.out, progress: to.err, client: &http.Client{Transport: transport},
	}
	p.examine(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p.problems > 0 {
		return errFindings
	}
	return nil
}

// target is what --url and --token-file say; an empty token is none.
func (c *doctorCmd) target() (base, token string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", "", fmt.Errorf("--url %q: want http://host:port or https://host", c.URL)
	}
	if c.TokenFile != "" {
		token, err = readToken(c.TokenFile)
	}
	return strings.TrimSuffix(c.URL, "/"), token, err
}

func (p *path) okf(format string, args ...any) { fmt.Fprintf(p.out, "ok       "+format+"\n", args...) }

// problemf says what is wrong with the path, but not of what ended with ctx: somebody
// has interrupted us.
func (p *path) problemf(ctx context.Context, format string, args ...any) {
	if ctx.Err() != nil {
		return
	}
	p.problems++
	fmt.Fprintf(p.out, "problem  "+format+"\n", args...)
}

func (p *path) examine(ctx context.Context) {
	there, err := p.roundTrip(ctx)
	if err != nil {
		p.problemf(ctx, "%v", err)
		return
	}
	var late time.Duration
	var s *pathStream
	for try := range pathTries {
		s, err = p.open(ctx)
		if err != nil {
			p.problemf(ctx, "%v", err)
			return
		}
		defer s.close()
		if lateness := max(s.readyAt.Sub(s.asked)-there, 0); try == 0 || lateness < late {
			late = lateness
		}
	}
	if late > pathLate {
		hint := ""
		if late > 150*time.Millisecond && late < 400*time.Millisecond {
			hint = `: HAProxy does that by default, "option http-no-delay" ends it`
		}
		p.problemf(ctx, "each frame is held back, for %v%s (docs/operations.md, Behind a proxy)", rounded(late), hint)
	} else {
		p.okf("the first frame of a stream comes %v after an answer would", rounded(late))
	}
	p.idle(ctx, s)
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// roundTrip says who answers, and returns the least time of an answer.
func (p *path) roundTrip(ctx context.Context) (least time.Duration, _ error) {
	ctx, cancel := context.WithTimeout(ctx, pathPatience)
	defer cancel()
	for try := range 5 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/healthz", http.NoBody)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		resp, err := p.client.Do(req)
		if err != nil {
			return 0, fmt.Errorf("nobody answers: %w", err)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		took := time.Since(began)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		if resp.StatusCode == http.StatusMisdirectedRequest {
			return 0, errors.New("the server doesn't answer to this name: start it with --host")
		}
		// A service of somebody's own may have no such path, or none without a token; but
		// who answers so is there, and takes no longer.
		if resp.StatusCode >= http.StatusInternalServerError {
			return 0, fmt.Errorf("/healthz is answered %s: is this the server, or does something in between answer?", resp.Status)
		}
		if try == 0 {
			through := strings.Join(append(resp.Header.Values("Via"), resp.Header.Values("Server")...), ", ")
			if through != "" {
				through = ", through " + through
			}
			p.okf("answers come over %s%s", resp.Proto, through)
			continue // it opened the connection
		}
		if least == 0 || took < least {
			least = took
		}
	}
	return least, nil
}

// pathStream is a stream that has said ready.
type pathStream struct {
	asked, readyAt time.Time
	heartbeat      time.Duration
	frames         <-chan pathFrame // closed at the end of the stream
	close          func()
}

type pathFrame struct {
	at    time.Time
	event string
	data  string
	retry bool
	err   error // the last one: why the stream ended
}

func (p *path) open(parent context.Context) (_ *pathStream, err error) {
	ctx, cancel := context.WithCancel(parent)
	s := new(pathStream)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { s.asked = time.Now() }})
	patience := time.AfterFunc(pathPatience, cancel)
	done := make(chan struct{})
	close(done)
	s.close = func() {
		patience.Stop()
		cancel()
		<-done
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/events?topic="+url.QueryEscape(p.topic), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.client.Do(req) //nolint:bodyclose // closed by judge's refusal or by the goroutine below
	if err != nil {
		return nil, p.nothing(parent, err)
	}
	if err := judge(resp); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	frames := make(chan pathFrame, 64)
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer close(frames)
		defer func() { _ = resp.Body.Close() }()
		readFrames(ctx, resp.Body, frames)
	}()
	s.frames = frames
	for frame := range frames {
		if frame.event == "ready" {
			var data struct {
				Heartbeat int `json:"heartbeat_ms"`
			}
			if err := json.Unmarshal([]byte(frame.data), &data); err != nil || data.Heartbeat <= 0 {
				return nil, errors.New("what comes is no stream of this protocol")
			}
			s.readyAt, s.heartbeat = frame.at, time.Duration(data.Heartbeat)*time.Millisecond
			patience.Stop()
			return s, nil
		}
		if frame.err != nil {
			return nil, p.nothing(parent, frame.err)
		}
	}
	return nil, p.nothing(parent, io.ErrUnexpectedEOF)
}

// nothing says why a stream didn't begin.
func (p *path) nothing(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("nothing of a stream comes within %v, though calls are answered: something in between buffers it (docs/operations.md, Behind a proxy)", pathPatience)
	}
	return fmt.Errorf("the stream ends before it begins: %w", err)
}

// asked is what to give to whoever asks who calls.
var asked = map[int]string{
	http.StatusUnauthorized: " (give a token by --token-file)",
	http.StatusForbidden:    " (name a --topic that the token's caller may read, by --token-file)",
	http.StatusNotFound:     " (is --url the server's? A service of your own mounts the stream at /events: docs/library.md, What doctor asks)",
}

// judge looks at the head of a stream's answer.
func judge(resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	switch coding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // as much as there is
		return fmt.Errorf("/events is answered %s: %s%s", resp.Status, strings.TrimSpace(string(text)), asked[resp.StatusCode])
	case !strings.HasPrefix(kind, "text/event-stream"):
		return fmt.Errorf("/events is answered with %q: something in between answers", kind)
	case coding != "" && coding != "identity":
		return fmt.Errorf("something in between compresses the stream (%s), and so holds it back: leave text/event-stream out", coding)
	}
	return nil
}

// readFrames reads until the stream ends or ctx does.
func readFrames(ctx context.Context, body io.Reader, frames chan<- pathFrame) {
	var frame pathFrame
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); name {
		case "event":
			frame.event = value
		case "data":
			frame.data += value
		case "retry":
			frame.retry = true
		case "":
			frame.at = time.Now()
			select {
			case frames <- frame:
			case <-ctx.Done():
				return
			}
			frame = pathFrame{}
		}
	}
	err := lines.Err()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	select {
	case frames <- pathFrame{at: time.Now(), err: cmp.Or(err, io.EOF)}:
	case <-ctx.Done():
	}
}

// idle waits for heartbeats: whoever cuts connections that are silent for long
// does it in between.
func (p *path) idle(ctx context.Context, s *pathStream) {
	last, beats := s.readyAt, 0
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(p.progress, "%3.0f s: waiting for heartbeat %d of %d, one comes every %v\n",
				time.Since(s.readyAt).Seconds(), beats+1, pathBeats, s.heartbeat)
			if time.Since(last) > s.heartbeat*5/2+time.Second {
				p.problemf(ctx, "no heartbeat for %v, though one is due every %v: something in between buffers the stream, or lets it starve", time.Since(last).Round(time.Second), s.heartbeat)
				return
			}
		case frame, open := <-s.frames:
			switch {
			case !open || frame.err != nil:
				p.problemf(ctx, "the stream was cut after %v of silence (heartbeats come every %v): raise the idle time-out of what is in between, or lower --heartbeat",
					time.Since(last).Round(100*time.Millisecond), s.heartbeat)
				return
			case frame.retry && frame.event == "frontier":
				p.okf("the server itself ends its streams just now, in good order: try again")
				return
			}
			// The first frames after ready may follow at once.
			if frame.event == "frontier" && frame.at.Sub(last) > s.heartbeat/2 {
				beats++
			}
			last = frame.at
			if beats == pathBeats {
				p.okf("%d heartbeats came, every %v", beats, s.heartbeat)
				return
			}
		}
	}
}
