package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/auth"
)

// authenticate has callers known by tokens that the arena's key signs, or by none.
func (a *arena) authenticate(t *testing.T) func(*http.Request) (server.Principal, error) {
	t.Helper()
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(a.key.Public())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "keys.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
	who, err := auth.New(auth.Config{KeyFile: file, Audiences: []string{"us"}, Cookie: "session", Anonymous: true})
	require.NoError(t, err)
	return who.Authenticate
}

// token signs claims, or says why it can't.
func (a *arena) token(claims map[string]any, header ...string) string {
	options := new(jose.SignerOptions)
	for i := 0; i < len(header); i += 2 {
		options = options.WithHeader(jose.HeaderKey(header[i]), header[i+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.key}, options)
	require.NoError(a.t, err)
	text, err := json.Marshal(claims)
	require.NoError(a.t, err)
	signed, err := signer.Sign(text)
	require.NoError(a.t, err)
	compact, err := signed.CompactSerialize()
	require.NoError(a.t, err)
	return compact
}

// ada is what a good token says, with more claims.
func ada(more ...any) map[string]any {
	claims := map[string]any{"iss": "https://id.example.com", "sub": "ada", "aud": "us", "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1]
	}
	return claims
}

// bearing is a read by somebody who says who they are.
func bearing(credential func(*arena) []string) func(*arena) string {
	return func(a *arena) string {
		return a.call(0, http.MethodPost, "ListMessages", openList, credential(a)...)
	}
}

// bearer is the same by a token.
func bearer(token func(*arena) string) func(*arena) string {
	return bearing(func(a *arena) []string { return []string{"Authorization", "Bearer " + token(a)} })
}

func bearerText(token string) func(*arena) string {
	return bearer(func(*arena) string { return token })
}

var b64 = base64.RawURLEncoding.EncodeToString

var attacksOnTokens = []attack{
	{"a good token (that the rest is refused means something)", bearer(func(a *arena) string { return a.token(ada()) }), "200"},
	{"a token that says nothing", bearerText("x"), "401 unauthenticated"},
	{"a token of 1 MB", bearerText(strings.Repeat("x", 1<<20)), "431"},
	{"a token of 20 kB", bearer(func(a *arena) string { return a.token(ada("more", strings.Repeat("x", 20_000))) }), "401 unauthenticated"},
	{"a token that nobody signed", bearerText(b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"sub":"ada","aud":"us","exp":9999999999}`)) + "."), "401 unauthenticated"},
	{"a token that expired", bearer(func(a *arena) string { return a.token(ada("exp", time.Now().Add(-time.Hour).Unix())) }), "401 unauthenticated"},
	{"a token without an end", bearer(func(a *arena) string { return a.token(ada("exp", nil)) }), "401 unauthenticated"},
	{"a token for somebody else", bearer(func(a *arena) string { return a.token(ada("aud", "them")) }), "401 unauthenticated"},
	{"a token with another claim after", bearer(func(a *arena) string {
		part := strings.Split(a.token(ada()), ".")
		return part[0] + "." + b64([]byte(`{"sub":"root","aud":"us","exp":9999999999}`)) + "." + part[2]
	}), "401 unauthenticated"},
	{"a good token that says where its key is (nobody goes there)", bearer(func(a *arena) string {
		return a.token(ada(), "jku", "http://127.0.0.1:1/keys", "kid", "../../etc/passwd")
	}), "200"},
	{"a token of 10,000 levels", bearerText(b64([]byte(`{"alg":"ES256"}`)) + "." + b64([]byte(strings.Repeat(`{"a":`, 2_000))) + "." + b64(make([]byte, 64))), "401 unauthenticated"},
	{"two tokens", bearing(func(a *arena) []string {
		return []string{"Authorization", "Bearer " + a.token(ada()), "Authorization", "Bearer " + a.token(ada())}
	}), "400 invalid_argument"},
	{"a token and a cookie", bearing(func(a *arena) []string {
		return []string{"Authorization", "Bearer " + a.token(ada()), "Cookie", "session=" + a.token(ada())}
	}), "400 invalid_argument"},
	{"a password", bearing(func(*arena) []string { return []string{"Authorization", "Basic YWRhOnNlY3JldA=="} }), "401 unauthenticated"},
	{"a cookie, from another site", bearing(func(a *arena) []string {
		return []string{"Cookie", "session=" + a.token(ada()), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}
	}), "403 permission_denied"},
	{"a token in the URL", func(a *arena) string {
		return a.send(0, http.MethodGet, "/events?topic=messages&access_token="+a.token(ada()), "")
	}, "400 invalid_argument"},
	{"a hundred tokens that nobody has seen", func(a *arena) string {
		forged := a.token(ada())
		return many(func(n int) string {
			return bearerText(forged[:len(forged)-4] + b64([]byte{byte(n), 0, 0})[:4])(a)
		})
	}, "100 × 401 unauthenticated"},
}
