package reuse

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// keep puts a message of that much text into the cache, under a key of that name.
func keep(c *cache, key string, position uint64, text int) proto.Message {
	m := &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Author: key, Body: strings.Repeat("x", text)}}
	c.put(readKey{request: key}, snapshot{response: connect.NewResponse(m), start: at(position)})
	return m
}

// A kept answer is encoded once for each codec; what isn't kept, each time.
func TestForm_encodedOnce(t *testing.T) {
	c := newCache(1 << 20)
	kept := keep(c, "one", 1, 100)
	encoded := 0
	encode := func(dst []byte, m proto.Message) ([]byte, error) {
		encoded++
		return proto.MarshalOptions{}.MarshalAppend(dst, m)
	}
	want, err := proto.Marshal(kept)
	require.NoError(t, err)
	for range 3 {
		out, err := c.marshal([]byte("before "), kept, "proto", encode)
		require.NoError(t, err)
		require.Equal(t, "before "+string(want), string(out))
	}
	require.Equal(t, 1, encoded)
	_, err = c.marshal(nil, kept, "json", encode)
	require.NoError(t, err)
	require.Equal(t, 2, encoded, "another codec's form is another")
	for range 2 {
		_, err = c.marshal(nil, proto.Clone(kept), "proto", encode)
		require.NoError(t, err)
	}
	require.Equal(t, 4, encoded, "an equal message that isn't kept")
}

// What is kept of forms counts against the bound, and goes with the answer.
func TestForm_isBoundedInBytes(t *testing.T) {
	c := newCache(8 << 10)
	first := keep(c, "first", 1, 1000)
	_, alone := c.size()
	_, err := c.marshal(nil, first, "proto", proto.MarshalOptions{}.MarshalAppend)
	require.NoError(t, err)
	_, with := c.size()
	require.Equal(t, alone+proto.Size(first), with)
	for _, key := range []string{"b", "c", "d", "e"} {
		m := keep(c, key, 1, 1000)
		_, err := c.marshal(nil, m, "proto", proto.MarshalOptions{}.MarshalAppend)
		require.NoError(t, err)
		_, bytes := c.size()
		require.LessOrEqual(t, bytes, 8<<10)
	}
	_, ok := c.form(first, "proto")
	require.False(t, ok, "it was pushed out")
	require.Len(t, c.bySum, len(c.byKey))

	keep(c, "e", 2, 999)
	require.Len(t, c.bySum, len(c.byKey)-1, "a new answer has no form yet")
	m := &messagesv1.GetMessageResponse{}
	c.put(readKey{request: "new"}, snapshot{response: connect.NewResponse(m), start: freshet.Revision{Epoch: epoch + 1, Position: 1}})
	require.Empty(t, c.bySum)
	require.Len(t, c.byMessage, 1)
}

// gunzip decompresses, several members too.
func gunzip(t *testing.T, compressed []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

func TestCompressor(t *testing.T) {
	c := newCache(1 << 20)
	raw, err := c.marshal(nil, keep(c, "one", 1, 5000), "proto", proto.MarshalOptions{}.MarshalAppend)
	require.NoError(t, err)
	z := newCompressor(c)
	compress := func(parts ...string) []byte {
		var out bytes.Buffer
		z.Reset(&out)
		for _, p := range parts {
			n, err := z.Write([]byte(p))
			require.NoError(t, err)
			require.Equal(t, len(p), n)
		}
		require.NoError(t, z.Close())
		return out.Bytes()
	}
	kept := string(raw)
	for _, parts := range [][]string{{}, {""}, {kept}, {kept}, {"something else"}, {kept, "and more"}, {"more, and ", kept}, {kept[:100], kept[100:]}, {kept, kept}} {
		require.Equal(t, strings.Join(parts, ""), gunzip(t, compress(parts...)))
	}
	f, gzipped := c.formOf(raw)
	require.NotNil(t, f)
	require.Equal(t, gzipped, compress(kept), "made once")
	_, size := c.size()
	require.Equal(t, c.byMessage[c.order.Front().Value.(*cached).message].bytes+len(raw)+len(gzipped), size)

	// A sum that two share: bytes decide.
	other := append([]byte{}, raw...)
	other[len(other)-1] ^= 1
	c.bySum[f.sum] = &form{raw: other, sum: f.sum, gzipped: []byte("wrong")}
	require.Equal(t, kept, gunzip(t, compress(kept)))
}
