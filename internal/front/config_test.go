package front_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/front"
)

// F81: what makes no sense is refused with the name of the flag that it comes
// from.
func TestNew_F81_nonsense(t *testing.T) {
	origins := func(origin string) front.Config { return front.Config{AllowedOrigins: []string{origin}} }
	for name, tt := range map[string]struct {
		cfg  front.Config
		want string
	}{
		"every interface":            {front.Config{Addr: ":8080"}, "--insecure"},
		"another interface":          {front.Config{Addr: "10.0.0.1:8080"}, "--insecure"},
		"a name":                     {front.Config{Addr: "example.com:8080"}, "--insecure"},
		"admin elsewhere":            {front.Config{AdminAddr: "0.0.0.0:9090"}, "--insecure"},
		"admin, authenticated":       {front.Config{AdminAddr: "0.0.0.0:9090", Authenticated: true}, "`admin: true` in --grants"},
		"admin, granted to anybody":  {front.Config{AdminAddr: "0.0.0.0:9090", Administer: onlyAdaAdministers}, "--oidc-issuer"},
		"no port":                    {front.Config{Addr: "127.0.0.1"}, "want host:port"},
		"no such port":               {front.Config{Addr: "127.0.0.1:99999"}, "invalid port"},
		"an address":                 {front.Config{AdminAddr: "9090"}, "--admin-addr"},
		"no connections":             {front.Config{MaxConnections: front.None}, "--max-connections: want a value from 1"},
		"no time to send":            {front.Config{ReadTimeout: 1}, "ReadTimeout"},
		"no time to read":            {front.Config{WriteTimeout: front.None}, "WriteTimeout"},
		"no headers":                 {front.Config{MaxHeaderBytes: front.None}, "MaxHeaderBytes"},
		"no requests":                {front.Config{MaxRequestBytes: 1}, "--max-request-bytes"},
		"a short drain":              {front.Config{Drain: 1}, "--drain: want a value from 1ms to 1h0m0s, or 0 for none"},
		"a proxy's name":             {front.Config{TrustedProxies: []string{"nginx"}}, "--trusted-proxy"},
		"a host with a port":         {front.Config{Hosts: []string{"app.example.com:443"}}, "--host"},
		"a host with a scheme":       {front.Config{Hosts: []string{"https://app.example.com"}}, "--host"},
		"a public host":              {front.Config{Hosts: []string{"localhost", "app.example.com"}}, `--host "app.example.com": other machines come by that name`},
		"any host":                   {front.Config{Hosts: []string{"*"}}, "--insecure"},
		"an empty host":              {front.Config{Hosts: []string{""}}, "--host"},
		"origin with a path":         {origins("https://a.example/b"), "scheme://host"},
		"origin is a name":           {origins("a.example"), "scheme://host"},
		"origin in upper case":       {origins("https://App.example.com"), `lower case: "https://app.example.com"`},
		"origin with the usual port": {origins("https://app.example.com:443"), `leave the usual port out: "https://app.example.com"`},
		"origin with an empty port":  {origins("http://app.example.com:"), "leave the usual port out"},
		"origin with a strange port": {origins("http://app.example.com:080"), "is no port"},
		"origin with a pattern":      {origins("https://*.example.com"), "no patterns"},
		"origin in Unicode":          {origins("https://bücher.example"), "ASCII"},
		"origin with a slash":        {origins("https://app.example.com/"), "scheme://host"},
		"origin of nobody":           {origins("https://:8443"), "no host"},
		"the opaque origin":          {origins("null"), "scheme://host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := front.New(tt.cfg)
			require.ErrorContains(t, err, tt.want)
		})
	}
	for _, origin := range []string{"https://app.example.com:8443", "http://localhost:5173", "http://[::1]:3000", "capacitor://localhost", "chrome-extension://abcdefghijklmnop", "*"} {
		_, err := front.New(origins(origin))
		require.NoError(t, err, origin)
	}
	for _, addr := range []string{"", "localhost:1", "127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1"} {
		_, err := front.New(front.Config{Addr: addr})
		require.NoError(t, err, addr)
	}
	_, err := front.New(front.Config{Addr: "0.0.0.0:8080", Authenticated: true})
	require.NoError(t, err)
	_, err = front.New(front.Config{Addr: "0.0.0.0:8080", AdminAddr: ":9090", Authenticated: true, Administer: onlyAdaAdministers})
	require.NoError(t, err)
	_, err = front.New(front.Config{Addr: "0.0.0.0:8080", AdminAddr: ":9090", Insecure: true, Drain: front.None, MaxConnectionsPerAddress: front.None})
	require.NoError(t, err)
}
