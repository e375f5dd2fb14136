package front

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where the admin port is taken, one of the next is used if that was asked for, and the
// log says which.
func TestListen_adminSpares(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	found := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for spares, want := range map[int]string{0: "--admin-addr chooses another address", 100: ""} {
		var log bytes.Buffer
		f := testFront(t, func(c *Config) {
			c.Addr, c.AdminAddr, c.AdminSpares = "127.0.0.1:0", taken.Addr().String(), spares
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		err := f.listen(t.Context(), http.NotFoundHandler(), found)
		if want != "" {
			require.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		at := regexp.MustCompile(`url=(\S+)`).FindStringSubmatch(log.String())
		require.NotNil(t, at, log.String())
		require.NotEqual(t, taken.Addr().String(), strings.TrimPrefix(at[1], "http://"))
		resp, err := clientVia(t, false).Get(at[1])
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
}
