package wal

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// frameOf is one backend message.
func frameOf(kind byte, body []byte) []byte {
	b := append([]byte{kind}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)+4))
	return append(b, body...)
}

// xlogOf is an XLogData frame around a pgoutput message.
func xlogOf(data []byte) []byte {
	return frameOf('d', append(append([]byte{'w'}, make([]byte, 24)...), data...))
}

// emitted is what pg_logical_emit_message becomes.
func emitted(flags byte, prefix string, content []byte) []byte {
	b := append([]byte{'M', flags}, make([]byte, 8)...)
	b = append(append(b, prefix...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

func TestMessageFilter_cutsLogicalMessagesOnly(t *testing.T) {
	small := xlogOf(emitted(1, "freshet", []byte("reports/daily")))
	row := xlogOf(append([]byte{'I'}, bytes.Repeat([]byte{7}, 3*maxMessageBytes)...))
	huge := xlogOf(emitted(1, "freshet", bytes.Repeat([]byte{'x'}, 1<<20)))
	ready := frameOf('Z', []byte{'I'})
	in := bytes.Join([][]byte{ready, small, row, huge, small, ready}, nil)
	cut := bytes.Clone(huge[:messageAfter+maxMessageBytes])
	binary.BigEndian.PutUint32(cut[1:], uint32(len(cut)-1))
	want := bytes.Join([][]byte{ready, small, row, cut, small, ready}, nil)

	for name, r := range map[string]io.Reader{
		"at once":     bytes.NewReader(in),
		"byte by one": iotest.OneByteReader(bytes.NewReader(in)),
		"halves":      iotest.HalfReader(bytes.NewReader(in)),
		"with error":  iotest.DataErrReader(bytes.NewReader(in)),
	} {
		got, err := io.ReadAll(&messageFilter{r: r, buf: make([]byte, 0, 1<<10)})
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	m, err := parseLogicalMessage(cut[messageAfter+1:])
	require.NoError(t, err)
	require.Equal(t, "freshet", m.prefix)
}

// TestMessageFilter_F74_hugeRow: a row above maxRowBytes becomes no buffer, and
// what is left of it says whose it was.
func TestMessageFilter_F74_hugeRow(t *testing.T) {
	for _, kind := range []byte("IUD") {
		tuple := append([]byte{kind, 0, 0, 0, 42, 'N', 0, 1, 't'}, 0x01, 0, 0, 0)
		huge := xlogOf(append(tuple, make([]byte, 16<<20)...))
		small := xlogOf(row(kind, 42, tupleOf('N', "a")))
		in := bytes.Join([][]byte{huge, small}, nil)
		got, err := io.ReadAll(&messageFilter{r: bytes.NewReader(in), buf: make([]byte, 0, 64<<10)})
		require.NoError(t, err)
		cut := bytes.Clone(huge[:rowAfter])
		binary.BigEndian.PutUint32(cut[1:], rowAfter-1)
		cut[messageAfter] = cutRow
		require.Equal(t, append(cut, small...), got)
	}
}

// TestMessageFilter_memory (F45): a message of 200 MB never becomes a buffer.
func TestMessageFilter_memory(t *testing.T) {
	const size = 200 << 20
	head := emitted(1, "junk", nil)
	header := make([]byte, frameHeader+xlogHeader)
	header[0], header[frameHeader] = 'd', 'w'
	binary.BigEndian.PutUint32(header[1:], uint32(len(header)-1+len(head)+size))
	r := io.MultiReader(bytes.NewReader(header), bytes.NewReader(head), io.LimitReader(zeros{}, size), bytes.NewReader(frameOf('Z', []byte{'I'})))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	frontend := newFrontend(nil)(r, io.Discard)
	msg, err := frontend.Receive()
	require.NoError(t, err)
	require.IsType(t, &pgproto3.CopyData{}, msg)
	msg, err = frontend.Receive()
	require.NoError(t, err)
	require.IsType(t, &pgproto3.ReadyForQuery{}, msg)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestMessageFilter_timeout: a read that timed out can be taken up again.
func TestMessageFilter_timeout(t *testing.T) {
	in := frameOf('d', bytes.Repeat([]byte{1}, 100))
	f := &messageFilter{r: iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(in))), buf: make([]byte, 0, 64)}
	var got []byte
	p := make([]byte, 16)
	timeouts := 0
	for {
		n, err := f.Read(p)
		got = append(got, p[:n]...)
		if err == iotest.ErrTimeout { //nolint:errorlint // exactly this one
			timeouts++
			continue
		}
		if err == io.EOF { //nolint:errorlint // exactly this one
			break
		}
		require.NoError(t, err)
	}
	require.Equal(t, 1, timeouts)
	require.Equal(t, in, got)
}

func FuzzMessageFilter(f *testing.F) {
	f.Add(xlogOf(emitted(1, "p", []byte("content"))))
	f.Add(xlogOf(emitted(0, "p", bytes.Repeat([]byte{1}, 9000))))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, err := io.ReadAll(&messageFilter{r: bytes.NewReader(in), buf: make([]byte, 0, 64)})
		require.NoError(t, err)
		parts, err := io.ReadAll(&messageFilter{r: iotest.OneByteReader(bytes.NewReader(in)), buf: make([]byte, 0, 4096)})
		require.NoError(t, err)
		require.Equal(t, whole, parts)
	})
}
