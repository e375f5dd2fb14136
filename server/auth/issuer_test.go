package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"
)

// A provider by somebody else: sign in by a code, as browsers do, and come here
// with what it gives out.
func TestIssuer_signIn(t *testing.T) {
	provider, err := mockoidc.Run()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, provider.Shutdown()) })
	_, err = provider.Keypair.KeyID() // works it out, which its handlers would do at once
	require.NoError(t, err)
	r := newRig(t, Config{Issuers: []string{provider.Issuer()}, Audiences: []string{provider.ClientID}})
	signIn := func() string {
		client := &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		query := url.Values{
			"client_id": {provider.ClientID}, "response_type": {"code"}, "scope": {"openid email"},
			"redirect_uri": {"http://127.0.0.1/back"}, "state": {"s"}, "nonce": {"n"},
		}
		ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, provider.AuthorizationEndpoint()+"?"+query.Encode(), nil)
		require.NoError(t, err)
		answer, err := client.Do(ask)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		back, err := answer.Location()
		require.NoError(t, err)
		form := url.Values{
			"client_id": {provider.ClientID}, "client_secret": {provider.ClientSecret}, "grant_type": {"authorization_code"},
			"code": {back.Query().Get("code")}, "redirect_uri": {"http://127.0.0.1/back"},
		}
		ask, err = http.NewRequestWithContext(t.Context(), http.MethodPost, provider.TokenEndpoint(), strings.NewReader(form.Encode()))
		require.NoError(t, err)
		ask.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err = client.Do(ask)
		require.NoError(t, err)
		defer func() { require.NoError(t, answer.Body.Close()) }()
		var got struct {
			Token string `json:"access_token"`
		}
		require.NoError(t, json.NewDecoder(answer.Body).Decode(&got))
		require.NotEmpty(t, got.Token)
		return got.Token
	}
	old := signIn()
	who, err := r.ask(t, old)
	require.NoError(t, err)
	require.Equal(t, provider.Issuer(), who.Issuer)
	require.NotEmpty(t, who.Subject)

	// It takes another key, at once: the first token that is signed by it is good.
	next, err := mockoidc.RandomKeypair(2048)
	require.NoError(t, err)
	_, err = next.KeyID()
	require.NoError(t, err)
	provider.Keypair = next
	r.ahead(pause)
	_, err = r.ask(t, signIn())
	require.NoError(t, err)
	_, err = r.ask(t, old)
	requireReason(t, errKey, err) // and the one before is over
}

// Rotation as it should be: the old key stays until its tokens have expired.
func TestIssuer_rotation(t *testing.T) {
	p := newProvider(t, rsaSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	old := rsaSigner.sign(t, claimsOf(p.URL))
	_, err := r.ask(t, old)
	require.NoError(t, err)
	next := signer{"rsa-2", jose.RS256, otherRSA}
	p.rotate(t, rsaSigner, next)
	r.ahead(pause)
	for _, token := range []string{next.sign(t, claimsOf(p.URL)), old} {
		_, err = r.ask(t, token)
		require.NoError(t, err)
	}
}

// An issuer that isn't up when we start: nobody is told that a token is bad, and
// all is well once it is there.
func TestIssuer_downAtStart(t *testing.T) {
	p := newProvider(t, rsaSigner)
	p.down.Store(true)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	token := rsaSigner.sign(t, claimsOf(p.URL))
	_, err := r.ask(t, token)
	requireReason(t, errUnreachable, err)
	p.down.Store(false)
	r.ahead(pause)
	_, err = r.ask(t, token)
	require.NoError(t, err)
}

// An issuer that goes away: tokens by keys that are known are good, and those by
// another key may be.
func TestIssuer_downLater(t *testing.T) {
	p := newProvider(t, rsaSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	_, err := r.ask(t, rsaSigner.sign(t, claimsOf(p.URL)))
	require.NoError(t, err)
	p.down.Store(true)
	r.ahead(time.Minute)
	next := signer{"rsa-2", jose.RS256, otherRSA}.sign(t, claimsOf(p.URL))
	_, err = r.ask(t, next)
	requireReason(t, errUnreachable, err)
	_, err = r.ask(t, rsaSigner.sign(t, claimsOf(p.URL, "sub", "bob")))
	require.NoError(t, err)
	_, err = r.ask(t, signer{"rsa-1", jose.RS256, otherRSA}.sign(t, claimsOf(p.URL)))
	requireReason(t, errKey, err)
	// It is back with nonsense, and with somebody else's name: that is no news either.
	p.down.Store(false)
	p.mu.Lock()
	p.keys = []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`)
	p.mu.Unlock()
	r.ahead(pause)
	_, err = r.ask(t, next)
	requireReason(t, errUnreachable, err)
	_, err = r.ask(t, rsaSigner.sign(t, claimsOf(p.URL, "sub", "carol")))
	require.NoError(t, err)
}

// Names of keys that nobody has make no storm.
func TestIssuer_unknownKeys(t *testing.T) {
	p := newProvider(t, rsaSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	_, err := r.ask(t, rsaSigner.sign(t, claimsOf(p.URL)))
	require.NoError(t, err)
	require.Equal(t, int64(1), p.fetches.Load())
	r.ahead(pause)
	frozen := r.now()
	for _, i := range r.issuers {
		i.mu.Lock()
		i.now = func() time.Time { return frozen }
		i.mu.Unlock()
	}
	edge := rsaSigner.sign(t, claimsOf(p.URL))
	_, rest, _ := strings.Cut(edge, ".")
	for n := range 1000 {
		_, err := r.ask(t, b64(fmt.Sprintf(`{"alg":"RS256","kid":"%d"}`, n))+"."+rest)
		requireReason(t, errKey, err)
	}
	require.Equal(t, int64(2), p.fetches.Load())
}

func TestIssuer_names(t *testing.T) {
	for name, ok := range map[string]bool{
		"https://id.example.com": true, "https://id.example.com/realms/x": true, "http://127.0.0.1:8080": true, "http://localhost": true,
		"http://id.example.com": false, "id.example.com": false, "": false, "https://u:p@id.example.com": false,
		"https://id.example.com?x": false, "ftp://id.example.com": false, "http://127.evil.example": false,
	} {
		require.Equal(t, ok, checkIssuer(name) == nil, name)
	}
	// Whoever calls itself something else isn't it.
	p := newProvider(t, rsaSigner)
	i := newIssuer(p.URL+"/", nil, nil)
	require.ErrorContains(t, i.fetch(t.Context()), "calls itself")
	require.Nil(t, i.current())
}
