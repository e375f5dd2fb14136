package fanout

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Command is what the readers are asked to do: one of its fields is set.
type Command struct {
	Connect *Connect `json:"connect,omitempty"`
	Stall   *Connect `json:"stall,omitempty"`  // connections that are never read from
	Reset   bool     `json:"reset,omitempty"`  // forget what was counted
	Await   uint64   `json:"await,omitempty"`  // until so many notices were counted, or Within has passed
	Within  Nanos    `json:"within,omitempty"` // of Await; also its end when nothing arrived for half of it
	Report  bool     `json:"report,omitempty"`
}

// Nanos is a duration as a number.
type Nanos = time.Duration

// Connect opens connections with one request each, and returns when each has
// the head of its response.
type Connect struct {
	Address string `json:"address"`
	Path    string `json:"path"`
	Number  int    `json:"number"`
	// Spread is how many paths there are: `{}` in Path stands for 0 to Spread-1
	// in turn. 0: one path, as it is.
	Spread int `json:"spread,omitempty"`
}

// pathOf is the path of the connection with a number.
func (c *Connect) pathOf(number int) string {
	if c.Spread == 0 {
		return c.Path
	}
	return strings.ReplaceAll(c.Path, "{}", strconv.Itoa(number%c.Spread))
}

// Report is what the readers counted since Reset. A stalled connection isn't in it.
type Report struct {
	Error       string        `json:"error,omitempty"`
	Connections int           `json:"connections"` // open
	Closed      int           `json:"closed"`      // by the server
	Notices     uint64        `json:"notices"`
	LastAt      int64         `json:"last_at"`  // when the last one came, in ns since 1970
	Position    uint64        `json:"position"` // the lowest of what each connection heard last
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
	Max         time.Duration `json:"max_ns"`
}

// Control is the measuring end of a pair of pipes with a process that obeys
// commands of type C and answers with reports of type R, a line each.
type Control[C, R any] struct {
	to   *json.Encoder
	from *json.Decoder
}

// NewControl speaks over the process's stdin and stdout.
func NewControl[C, R any](to io.Writer, from io.Reader) *Control[C, R] {
	return &Control[C, R]{to: json.NewEncoder(to), from: json.NewDecoder(from)}
}

// Do sends a command and waits for its answer.
func (c *Control[C, R]) Do(command C) (report R, err error) {
	if err := c.to.Encode(command); err != nil {
		return report, err
	}
	return c.Next()
}

// Next waits for an answer.
func (c *Control[C, R]) Next() (report R, err error) {
	err = c.from.Decode(&report)
	return report, err
}

// Obey is the other end: it answers each line of from by what do returns, until
// from ends.
func Obey[C, R any](from io.Reader, to io.Writer, do func(C) R) error {
	out := json.NewEncoder(to)
	for lines := json.NewDecoder(bufio.NewReader(from)); ; {
		var command C
		switch err := lines.Decode(&command); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("a command: %w", err)
		}
		if err := out.Encode(do(command)); err != nil {
			return err
		}
	}
}
