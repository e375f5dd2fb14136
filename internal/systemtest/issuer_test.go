package systemtest_test

import (
	"encoding/json"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

const audience = "freshet-systemtest"

// newKeys makes a key pair. What works itself out when it is first asked for does so
// here, before an issuer's handlers ask at once.
func newKeys(t *testing.T) *mockoidc.Keypair {
	t.Helper()
	keys, err := mockoidc.RandomKeypair(2048)
	require.NoError(t, err)
	_, err = keys.KeyID()
	require.NoError(t, err)
	return keys
}

// issuer is an OpenID Connect provider on an address of its own, which comes and goes.
type issuer struct {
	addr     string
	provider *mockoidc.MockOIDC // nil: nobody answers
	keys     *mockoidc.Keypair  // that it signs with
}

func (i *issuer) name() string { return "http://" + i.addr + mockoidc.IssuerBase }

// up has it answer.
func (i *issuer) up(t *testing.T) {
	t.Helper()
	provider, err := mockoidc.NewServer(nil)
	require.NoError(t, err)
	provider.Keypair = i.keys
	listener, err := new(net.ListenConfig).Listen(testkit.Context(t), "tcp", i.addr)
	require.NoError(t, err)
	require.NoError(t, provider.Start(listener, nil))
	i.provider = provider
	t.Cleanup(func() { i.down(t) })
}

// down has nobody answer there. It may be repeated.
func (i *issuer) down(t *testing.T) {
	t.Helper()
	if i.provider != nil {
		require.NoError(t, i.provider.Server.Close())
		i.provider = nil
	}
}

// rotate has it sign with another key from now on.
func (i *issuer) rotate(t *testing.T) {
	t.Helper()
	i.keys = newKeys(t)
	i.provider.Keypair = i.keys
}

// token is what it gives to somebody. change are claims, and what they are instead;
// nil: they are left out.
func (i *issuer) token(t *testing.T, sub string, change ...any) string {
	t.Helper()
	return sign(t, i.keys, i.name(), sub, change...)
}

func sign(t *testing.T, keys *mockoidc.Keypair, iss, sub string, change ...any) string {
	t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{"iss": iss, "sub": sub, "aud": audience, "iat": now, "exp": now + 3600}
	for n := 0; n < len(change); n += 2 {
		claims[change[n].(string)] = change[n+1]
	}
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: keys.PrivateKey, KeyID: keys.Kid}}, nil)
	require.NoError(t, err)
	jws, err := signer.Sign(payload)
	require.NoError(t, err)
	token, err := jws.CompactSerialize()
	require.NoError(t, err)
	return token
}

// unsigned is a token that nobody has signed.
func unsigned(token string) string {
	return "eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + "."
}
