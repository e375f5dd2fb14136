package front

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHosts_allow(t *testing.T) {
	machine, err := os.Hostname()
	require.NoError(t, err)
	for _, tt := range []struct {
		host            string
		names           []string
		allowed, beyond bool // on loopback; on a port that others reach
	}{
		{host: "127.0.0.1:8080", allowed: true, beyond: true},
		{host: "127.0.0.1", allowed: true, beyond: true},
		{host: "127.9.9.9:1", allowed: true, beyond: true},
		{host: "[::1]:8080", allowed: true, beyond: true},
		{host: "[::1]", allowed: true, beyond: true},
		{host: "[::ffff:127.0.0.1]:1", allowed: true, beyond: true},
		{host: "localhost", allowed: true, beyond: true},
		{host: "LocalHost.:8080", allowed: true, beyond: true},
		{host: "app.localhost:8080", allowed: true, beyond: true},
		{host: "", allowed: true, beyond: true},
		{host: "10.0.0.1:8080", beyond: true}, // an address can't be rebound
		{host: "[fe80::1%25eth0]:8080", beyond: true},
		{host: machine, beyond: true},
		{host: "evil.example:8080"},
		{host: "localhost.evil.example"},
		{host: "127.0.0.1.nip.io"},
		{host: "notlocalhost"},
		{host: "127.0.0.1@evil.example"},
		{host: "app.example.com", names: []string{"app.example.com"}, allowed: true, beyond: true},
		{host: "APP.example.com:443", names: []string{"app.example.com"}, allowed: true, beyond: true},
		{host: "x.app.example.com", names: []string{"app.example.com"}},
		{host: "evil.example", names: []string{"*"}, allowed: true, beyond: true},
	} {
		require.Equal(t, tt.allowed, newHosts("127.0.0.1:8080", tt.names).allow(tt.host), "loopback: %q", tt.host)
		require.Equal(t, tt.beyond, newHosts("0.0.0.0:8080", tt.names).allow(tt.host), "beyond: %q", tt.host)
	}
}
