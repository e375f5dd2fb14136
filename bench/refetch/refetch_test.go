//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/bench/fanout"
	"github.com/freshet-dev/freshet/bench/rig"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// peer runs one end of a process's pipes in this one.
func peer[C, R any](t *testing.T, run func(io.Reader, io.Writer) error) *fanout.Control[C, R] {
	t.Helper()
	in, to := io.Pipe()
	from, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(in, out) }()
	t.Cleanup(func() {
		require.NoError(t, to.Close())
		require.NoError(t, <-ended)
	})
	return fanout.NewControl[C, R](to, from)
}

// What Freshet has said is said again byte by byte, on every connection; and
// with a length if that is wanted.
func TestStatic_saysTheSame(t *testing.T) {
	static := peer[answer, where](t, func(in io.Reader, out io.Writer) error { return serveStatic(t.Context(), in, out) })
	driver := peer[order, tally](t, drive)
	at, err := static.Do(answer{})
	require.NoError(t, err)
	do := func(o order) tally {
		got, err := driver.Do(o)
		require.NoError(t, err)
		return got
	}
	require.Empty(t, do(order{Connect: &connecting{at.Address, 3}}).Error)
	request, err := formats[1].request(at.Address, freshet.Revision{Epoch: 1, Position: 2})
	require.NoError(t, err)
	require.Contains(t, string(request), "Freshet-At-Least: 00000001-0000000000000002\r\nAccept-Encoding: gzip\r\n\r\n{")

	body := bytes.Repeat([]byte("0123456789"), 2000)
	for _, sized := range []bool{false, true} {
		header := http.Header{"Content-Type": {"x/y"}, "Freshet-Revision": {"r"}, "Transfer-Encoding": {"chunked"}, "Date": {"once"}}
		_, err := static.Do(like(header, body, sized))
		require.NoError(t, err)
		got := do(order{Ask: &asking{at.Address, request}})
		require.Empty(t, got.Error)
		require.Equal(t, 3, got.Answers)
		require.Positive(t, got.Last)
		require.Equal(t, body, got.Body)
		said, err := headerOf(got.Head)
		require.NoError(t, err)
		require.Equal(t, []string{"r"}, said["Freshet-Revision"])
		require.NotEqual(t, "once", said.Get("Date"))
		require.Equal(t, sized, said.Get("Content-Length") == "20000")
		require.Equal(t, !sized, said.Get("Transfer-Encoding") == "chunked")
	}
	require.Contains(t, do(order{Ask: &asking{"127.0.0.1:1", request}}).Error, "no connections")
}

func TestConnections_compare(t *testing.T) {
	c := &connections{order: []int{4, 5}, all: map[int]*response{4: {length: 2, sum: 1}, 5: {length: 2, sum: 1}}}
	require.NoError(t, c.compare(new(tally)))
	c.all[5].sum = 2
	require.ErrorContains(t, c.compare(new(tally)), "different answers")
}

// An answer without the written row, or not as it was asked for, is no answer.
func TestFormat_verifies(t *testing.T) {
	page := &messagesv1.ListMessagesResponse{}
	for i := range pageSize {
		page.Messages = append(page.Messages, &messagesv1.Message{Name: fmt.Sprint("m", i)})
	}
	body, err := protojson.Marshal(page)
	require.NoError(t, err)
	require.NoError(t, formats[0].verify(http.Header{}, body, "m0"))
	require.ErrorContains(t, formats[0].verify(http.Header{}, body, "m1"), "without m1 on top")
	require.ErrorContains(t, formats[1].verify(http.Header{}, body, "m0"), "Content-Encoding")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(body)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, formats[1].verify(http.Header{"Content-Encoding": {"gzip"}}, packed.Bytes(), "m0"))
}

func TestDatabase_text(t *testing.T) {
	d := newDatabase(nil)
	first := d.text()
	require.Len(t, first, 200)
	require.NotEqual(t, first, d.text())
}

func TestReport(t *testing.T) {
	r := &report{
		Time: time.Now(), Command: "make bench/refetch", Machine: rig.Machine{CPUs: 2, Busy: 1.5}, Connections: 4000,
		Postgres: map[string]string{"server_version": "15.1 (Debian)"},
	}
	for i := range 3 {
		slow := float64(i + 1) // the machine's mood, which a ratio doesn't show
		r.add("JSON", []measured{
			{Server: plain, CPUMicros: 10 * slow, LastMillis: 30},
			{Server: ours, CPUMicros: 12 * slow, LastMillis: 40, Bytes: 18000, Statements: 1 + i/2},
			{Server: kept, CPUMicros: 11 * slow},
			{Server: sized, CPUMicros: 8 * slow, LastMillis: 20},
		})
	}
	require.Contains(t, r.table(), "| JSON, 18.0 KB | freshet | 1 to 2 | 24.0 | 1.20 | 1.50 | 40 |\n|  | freshet, again | 0 | 22.0 | 1.10 |")
	dir := filepath.Join(t.TempDir(), "results")
	require.NoError(t, r.save(dir))
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	require.NotContains(t, string(readme), "%!")
	require.Contains(t, string(readme), r.table())
	require.Contains(t, string(readme), "busy with other things (1.50 of its 2 CPUs)")
	svg, err := os.ReadFile(filepath.Join(dir, "refetch.svg"))
	require.NoError(t, err)
	require.Contains(t, string(svg), `class="bar ours"`)
}
