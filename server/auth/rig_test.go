package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet/server/intercept"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer is a private key as an issuer has it.
type signer struct {
	kid string
	alg jose.SignatureAlgorithm
	key any // crypto.Signer, or a secret
}

var (
	rsaKey, otherRSA = newRSA(2048), newRSA(2048)
	ecKey            = newEC(elliptic.P256())
	ec384            = newEC(elliptic.P384())
	edKey            = func() ed25519.PrivateKey { _, key, _ := ed25519.GenerateKey(rand.Reader); return key }()
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// sign makes a token. header is on top of alg and kid.
func (s signer) sign(t testing.TB, claims any, header ...any) string {
	t.Helper()
	options := new(jose.SignerOptions)
	for i := 0; i < len(header); i += 2 {
		options = options.WithHeader(jose.HeaderKey(header[i].(string)), header[i+1])
	}
	made, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: jose.JSONWebKey{Key: s.key, KeyID: s.kid}}, options)
	require.NoError(t, err)
	payload, ok := claims.(string)
	if !ok {
		text, err := json.Marshal(claims)
		require.NoError(t, err)
		payload = string(text)
	}
	jws, err := made.Sign([]byte(payload))
	require.NoError(t, err)
	text, err := jws.CompactSerialize()
	require.NoError(t, err)
	return text
}

// jwk is the public half.
func (s signer) jwk() jose.JSONWebKey {
	public := s.key
	if private, ok := public.(crypto.Signer); ok {
		public = private.Public()
	}
	return jose.JSONWebKey{Key: public, KeyID: s.kid, Algorithm: string(s.alg), Use: "sig"}
}

func jwks(t testing.TB, signers ...signer) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, s.jwk())
	}
	text, err := json.Marshal(set)
	require.NoError(t, err)
	return text
}

// provider is an OpenID Connect provider as far as we see of one.
type provider struct {
	*httptest.Server
	down    atomic.Bool
	fetches atomic.Int64 // of keys
	mu      sync.Mutex
	keys    []byte
}

func newProvider(t testing.TB, signers ...signer) *provider {
	t.Helper()
	p := &provider{keys: jwks(t, signers...)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
		default:
			p.fetches.Add(1)
			_, _ = w.Write(p.keys)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) rotate(t testing.TB, signers ...signer) {
	t.Helper()
	keys := jwks(t, signers...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// rig is an Authenticator that runs, with a clock that tests move.
type rig struct {
	*Authenticator
	clock atomic.Int64 // ns ahead
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{}
	if cfg.Audiences == nil {
		cfg.Audiences = []string{"freshet"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	r.Authenticator, err = New(cfg)
	require.NoError(t, err)
	r.now = func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }
	ended := make(chan error, 1)
	for _, i := range r.issuers {
		i.now = r.now
	}
	ctx, cancel := contextOf(t)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return r
}

func (r *rig) ahead(d time.Duration) { r.clock.Add(int64(d)) }

func (r *rig) ask(t testing.TB, token string) (intercept.Principal, error) {
	t.Helper()
	return r.Authenticate(request(t, http.MethodPost, "/x.v1.X/Y", "Authorization", "Bearer "+token))
}

func request(t testing.TB, method, at string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, at, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func claimsOf(iss string, change ...any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": iss, "sub": "ada", "aud": "freshet", "iat": now, "exp": now + 3600}
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == nil {
			delete(claims, change[i].(string))
			continue
		}
		claims[change[i].(string)] = change[i+1]
	}
	return maps.Clone(claims)
}

func requireReason(t testing.TB, want *Error, err error) {
	t.Helper()
	var known *Error
	require.ErrorAs(t, err, &known)
	require.Equal(t, want.Reason, known.Reason)
	require.Equal(t, want.Code, connect.CodeOf(err))
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
