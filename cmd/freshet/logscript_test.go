package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/store/setup"
)

// The SQL of a set-up's problems follows the line as it is to be run; nothing in it, and
// no other error, can look like a line of the log or steer the terminal.
func TestLogger_script(t *testing.T) {
	var out bytes.Buffer
	logger := (&cli{LogFormat: "text"}).logger(&out).With("node", 1).WithGroup("at")
	problem := setup.Problem{Text: `the table "t"`, By: "x", SQL: []string{`alter table "t";`, "alter table \"u\x1b[2J\ntime=now\";"}}
	logger.Warn("set-up", "why", fmt.Errorf("start: %w", &setup.Error{Problems: []setup.Problem{problem}}), "n", 2)
	logger.Warn("other", "error", errors.New("a\nb"))
	lines := bytes.SplitAfter(out.Bytes(), []byte("\n"))
	require.Len(t, lines, 7, out.String())
	require.Contains(t, string(lines[0]), `level=WARN msg=set-up node=1 at.why="start: the table \"t\"" at.n=2`)
	require.Equal(t, "  -- to be run by x:\n  alter table \"t\";\n  alter table \"u\ufffd[2J\n  time=now\";\n", string(bytes.Join(lines[1:5], nil)))
	require.Contains(t, string(lines[5]), `error="a\nb"`)

	out.Reset()
	(&cli{LogFormat: "json"}).logger(&out).Warn("set-up", "why", &setup.Error{Problems: []setup.Problem{problem}})
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), "a line an object")
}
