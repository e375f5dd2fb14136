package reuse

import (
	"strconv"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

func TestCache_isBoundedInBytes(t *testing.T) {
	c := newCache(10 * (answerOverhead + 200))
	answerAt := func(position uint64, size int) snapshot {
		m := &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: string(make([]byte, size))}}
		return snapshot{response: connect.NewResponse(m), start: at(position)}
	}
	for i := range 100 {
		c.put(readKey{request: strconv.Itoa(i)}, answerAt(1, 150))
		c.get(readKey{request: "0"}) // in use: stays
	}
	entries, bytes := c.size()
	require.LessOrEqual(t, bytes, c.maxBytes)
	require.Equal(t, 10, entries)
	_, ok := c.get(readKey{request: "0"})
	require.True(t, ok)
	c.put(readKey{request: "large"}, answerAt(1, c.maxBytes))
	_, ok = c.get(readKey{request: "large"})
	require.False(t, ok, "one answer may not push out the others")

	c.put(readKey{request: "0"}, answerAt(5, 1))
	c.put(readKey{request: "0"}, answerAt(3, 1))
	kept, _ := c.get(readKey{request: "0"})
	require.Equal(t, at(5), kept.start, "a later snapshot is not replaced by an earlier one")

	c.put(readKey{request: "new"}, snapshot{response: answerAt(0, 1).response, start: freshet.Revision{Epoch: epoch + 1, Position: 1}})
	entries, bytes = c.size()
	require.Equal(t, 1, entries, "a new epoch empties the cache")
	require.Positive(t, bytes)
	c.put(readKey{request: "old"}, answerAt(9, 1))
	entries, _ = c.size()
	require.Equal(t, 1, entries)
}
