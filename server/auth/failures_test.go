package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
)

// bounded is an Authenticator before which everybody says whose requests theirs are:
// two bad tokens a second, twenty at once.
func bounded(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, jwks(t, rsaSigner), 0o600))
	cfg := Config{KeyFile: path, MaxFailuresPerCaller: 2, Caller: func(r *http.Request) string { return r.RemoteAddr }}
	if change != nil {
		change(&cfg)
	}
	r := newRig(t, cfg)
	start := time.Now() // the clock stands still unless it is moved
	r.now = func() time.Time { return start.Add(time.Duration(r.clock.Load())) }
	return r
}

func (r *rig) from(t testing.TB, address, token string) error {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	req.RemoteAddr = address
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	_, err := r.Authenticate(req)
	return err
}

// tokens are ever new ones of somebody.
func tokens(t testing.TB, by signer) func(sub string) string {
	n := 0
	return func(sub string) string {
		n++
		claims := claimsOf("https://id.example.com")
		claims["sub"], claims["jti"] = sub, n
		return by.sign(t, claims)
	}
}

// stranger signs in the name of a key that isn't theirs.
var stranger = signer{rsaSigner.kid, rsaSigner.alg, otherRSA}

// Who sends bad tokens without end has them looked into so often and no more; others
// notice nothing: those of other addresses, and of the same one those who have been here.
func TestFailures(t *testing.T) {
	r := bounded(t, nil)
	good, bad := tokens(t, rsaSigner), tokens(t, stranger)
	const nat = "192.0.2.1"
	adas := good("ada")
	require.NoError(t, r.from(t, nat, adas))
	for range 20 {
		requireReason(t, errKey, r.from(t, nat, bad("mallory")))
	}
	for _, token := range []string{bad("mallory"), "x", good("carl")} {
		err := r.from(t, nat, token)
		requireReason(t, errTooMany, err)
		require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
		var refused *connect.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "1", refused.Meta().Get("Retry-After"))
	}
	requireReason(t, errNone, r.from(t, nat, ""))
	require.NoError(t, r.from(t, nat, adas), "a token that is known to be good")
	for range 30 {
		require.NoError(t, r.from(t, nat, good("ada")), "good ones of somebody who has been here cost nothing")
	}
	require.NoError(t, r.from(t, "192.0.2.2", good("carl")), "another address")
	require.NoError(t, r.from(t, nat, good("carl")), "who has been here by now")

	// Mallory knows of ada: what is sent in her name has a bound of its own.
	for range 10 {
		requireReason(t, errKey, r.from(t, nat, bad("ada")))
	}
	requireReason(t, errTooMany, r.from(t, nat, bad("ada")))
	require.NoError(t, r.from(t, nat, adas))
	require.NoError(t, r.from(t, nat, good("carl")))
	require.NoError(t, r.from(t, "192.0.2.2", good("ada")), "she is elsewhere, too")

	r.ahead(time.Second)
	require.NoError(t, r.from(t, nat, good("dora")), "somebody new, once there is room")
	for range 2 {
		requireReason(t, errKey, r.from(t, nat, bad("mallory")))
	}
	requireReason(t, errTooMany, r.from(t, nat, bad("mallory")))
	r.ahead(time.Minute)
	for range 20 {
		requireReason(t, errMalformed, r.from(t, nat, "x"))
	}
	requireReason(t, errTooMany, r.from(t, nat, "x"))
}

// What nobody can tell now is nobody's fault, and good tokens are none, however many.
func TestFailures_innocent(t *testing.T) {
	p := newProvider(t, rsaSigner)
	p.down.Store(true)
	r := bounded(t, func(c *Config) { c.Issuers = []string{p.URL} })
	for n := range 30 {
		claims := claimsOf(p.URL)
		claims["jti"] = n
		requireReason(t, errUnreachable, r.from(t, "a", rsaSigner.sign(t, claims)))
	}
	good := tokens(t, rsaSigner)
	for n := range 30 {
		require.NoError(t, r.from(t, "a", good(fmt.Sprint(n))))
	}
	requireReason(t, errKey, r.from(t, "a", tokens(t, stranger)("mallory")))
}

func TestFailures_noBound(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"none":   func(c *Config) { c.MaxFailuresPerCaller = -1 },
		"nobody": func(c *Config) { c.Caller = nil },
	} {
		r := bounded(t, change)
		for range 100 {
			requireReason(t, errMalformed, r.from(t, "a", "x"))
		}
		callers, _ := r.failures.callers.all.Size()
		require.Zero(t, callers, name)
	}
	_, err := New(Config{KeyFile: "none", Audiences: []string{"x"}, MaxFailuresPerCaller: 1 << 30})
	require.ErrorContains(t, err, "want 1000000 at most")
	require.Equal(t, 100, Defaults().MaxFailuresPerCaller)
}

// Whatever addresses and principals there are, so many are remembered.
func TestFailures_memory(t *testing.T) {
	b := newBuckets[int](1, 1, 100)
	for n := range 1000 {
		made := b.of(n)
		require.NotNil(t, made)
		_, known := b.all.Get(-1)
		require.False(t, known)
		some, _ := b.all.Size()
		require.LessOrEqual(t, some, 100)
		require.Same(t, made, b.of(n))
	}
	some, _ := b.all.Size()
	require.Equal(t, 100, some)
}
