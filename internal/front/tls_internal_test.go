package front

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// A client of HTTP/2 is told how many streams it may have on a connection.
func TestPort_F62_streamsOfAConnectionAreBounded(t *testing.T) {
	f := testFront(t, func(*Config) {})
	at := f.testPort(t, new(port), http.NotFoundHandler())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	frames := http2.NewFramer(conn, conn)
	require.NoError(t, frames.WriteSettings())
	frame, err := frames.ReadFrame()
	require.NoError(t, err)
	settings, ok := frame.(*http2.SettingsFrame)
	require.True(t, ok, "%v", frame)
	most, ok := settings.Value(http2.SettingMaxConcurrentStreams)
	require.True(t, ok)
	require.EqualValues(t, maxStreamsPerConnection, most)
}
