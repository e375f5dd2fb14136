package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
)

// watchCmd follows topics in the terminal: events on standard output, the state
// of the connection on standard error, so that a pipe sees events only.
type watchCmd struct {
	Topics    []string       `arg:"" name:"topic" help:"Topics to follow, matched exactly: conversations/7/messages."`
	URL       string         `name:"url" default:"http://127.0.0.1:8080" env:"FRESHET_URL" help:"Address of the server."`
	Since     string         `name:"since" placeholder:"REVISION" help:"Tell first what changed after this revision."`
	Throttle  *time.Duration `name:"throttle" placeholder:"DURATION" help:"Least time between two notices, 0 to 10s; unset: the server's default."`
	TokenFile string         `name:"token-file" placeholder:"FILE" env:"FRESHET_TOKEN_FILE" help:"File with a bearer token; read again before every connection."`
	JSON      bool           `name:"json" help:"Print one JSON object per line."`

	http *http.Client // nil: the default
}

// Somebody sits before it and waits, so that it asks oftener than programs do, of
// which there may be thousands: after three seconds at most, with what is added at
// random, unless the server asks for more.
const (
	watchRetry        = 500 * time.Millisecond
	watchLongestRetry = 2 * time.Second
)

// Run follows the topics until ctx ends, which is no error: that is how one
// leaves it.
func (c *watchCmd) Run(ctx context.Context) error {
	return c.run(ctx, os.Stdout, os.Stderr, colourful(os.Stdout), colourful(os.Stderr))
}

func (c *watchCmd) run(ctx context.Context, stdout, stderr io.Writer, colourOut, colourErr bool) error {
	var opts []client.StreamOption
	if c.Since != "" {
		rev, err := freshet.ParseRevision(c.Since)
		if err != nil {
			return fmt.Errorf("--since: %w", err)
		}
		opts = append(opts, client.WithSince(rev))
	}
	if c.Throttle != nil {
		if *c.Throttle < 0 || *c.Throttle > 10*time.Second {
			return fmt.Errorf("--throttle %v: want 0 to 10s", *c.Throttle)
		}
		opts = append(opts, client.WithThrottle(*c.Throttle))
	}
	with := []client.Option{client.WithBackoff(watchRetry, watchLongestRetry)}
	if c.http != nil {
		with = append(with, client.WithHTTPClient(c.http))
	}
	if c.TokenFile != "" {
		if _, err := readToken(c.TokenFile); err != nil {
			return err // at once, not again and again as a failed attempt
		}
		with = append(with, client.WithTokenSource(func(context.Context) (string, error) {
			return readToken(c.TokenFile)
		}))
	}
	cl, err := client.New(c.URL, with...)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	p := &printer{
		out: stdout, state: stderr, url: c.URL,
		outColour: palette(colourOut), stateColour: palette(colourErr),
		json: c.JSON, now: time.Now,
	}
	err = cl.Stream(ctx, c.Topics, p.print, opts...)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("--token-file: %s is empty", file)
	}
	return token, nil
}

// printer writes events.
type printer struct {
	out, state             io.Writer
	outColour, stateColour palette
	url                    string
	json                   bool
	now                    func() time.Time
}

const clock = "15:04:05.000"

// print is the stream's sink. An error is that of a write: nobody listens.
func (p *printer) print(e client.Event) error {
	switch e := e.(type) {
	case client.Connected:
		return p.stateLine(green, "connected to "+p.url)
	case client.Disconnected:
		return p.stateLine(red, fmt.Sprintf("disconnected: %v; next attempt in %v", e.Err, e.Retry.Round(10*time.Millisecond)))
	}
	l, ok := lineOf(e)
	if !ok {
		return nil
	}
	l.Time = p.now()
	if p.json {
		return json.NewEncoder(p.out).Encode(l)
	}
	_, err := fmt.Fprintf(p.out, "%s  %s  %s  %s\n", p.outColour.paint(dim, l.Time.Format(clock)),
		p.outColour.paint(l.colour, fmt.Sprintf("%-10s", l.Event)), l.Revision, printable(l.text))
	return err
}

func (p *printer) stateLine(c colour, text string) error {
	_, err := fmt.Fprintf(p.state, "%s  %s\n",
		p.stateColour.paint(dim, p.now().Format(clock)), p.stateColour.paint(c, printable(text)))
	return err
}

// line is an event as `--json` prints it; unset fields don't belong to the event.
type line struct {
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	Revision    string    `json:"revision"`
	Topics      []string  `json:"topics,omitempty"`
	SpreadMS    *int64    `json:"spread_ms,omitempty"`
	Subscribed  *int      `json:"subscribed,omitempty"`
	HeartbeatMS *int64    `json:"heartbeat_ms,omitempty"`
	Contract    string    `json:"contract,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	LagMS       *int64    `json:"lag_ms,omitempty"`

	text   string
	colour colour
}

func lineOf(e client.Event) (line, bool) {
	ms := func(d time.Duration) *int64 { return new(d.Milliseconds()) }
	switch e := e.(type) {
	case client.Invalidate:
		return line{
			Event: "invalidate", Revision: e.Revision.String(), Topics: e.Topics, SpreadMS: ms(e.Spread),
			text: strings.Join(e.Topics, "  "), colour: bold,
		}, true
	case client.Ready:
		return line{
			Event: "ready", Revision: e.Revision.String(),
			Subscribed: new(e.Topics), HeartbeatMS: ms(e.Heartbeat), Contract: e.Contract,
			text: fmt.Sprintf("topics %d, heartbeat %v, contract %s", e.Topics, e.Heartbeat, e.Contract), colour: green,
		}, true
	case client.Reset:
		return line{
			Event: "reset", Revision: e.Revision.String(), Reason: e.Reason,
			text: "reason " + e.Reason + ": refetch everything", colour: red,
		}, true
	case client.Frontier:
		return line{
			Event: "frontier", Revision: e.Revision.String(), LagMS: ms(e.Lag),
			text: fmt.Sprintf("lag %v", e.Lag), colour: dim,
		}, true
	}
	return line{}, false
}

// printable keeps what a server says from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// colour is the number of an SGR sequence.
type colour string

const (
	bold  colour = "1"
	dim   colour = "2"
	red   colour = "31"
	green colour = "32"
)

// palette paints, or doesn't.
type palette bool

func (p palette) paint(c colour, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// colourful reports whether f is a terminal whose owner wants colour
// (https://no-color.org).
func colourful(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	// A character device is near enough; /dev/null doesn't mind.
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
