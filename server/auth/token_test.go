package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/lru"
)

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}

var (
	rsaSigner = signer{"rsa-1", jose.RS256, rsaKey}
	ecSigner  = signer{"ec-1", jose.ES256, ecKey}
	edSigner  = signer{"ed-1", jose.EdDSA, edKey}
)

func TestVerify_good(t *testing.T) {
	p := newProvider(t, rsaSigner, ecSigner, edSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	for name, token := range map[string]string{
		"rsa":            rsaSigner.sign(t, claimsOf(p.URL)),
		"ec":             ecSigner.sign(t, claimsOf(p.URL)),
		"ed25519":        edSigner.sign(t, claimsOf(p.URL)),
		"RFC 9068":       rsaSigner.sign(t, claimsOf(p.URL), "typ", "at+jwt"),
		"RFC 9068, long": rsaSigner.sign(t, claimsOf(p.URL), "typ", "application/at+JWT"),
		"JWT":            rsaSigner.sign(t, claimsOf(p.URL), "typ", "JWT"),
		"no kid":         signer{"", jose.RS256, rsaKey}.sign(t, claimsOf(p.URL)),
		"two audiences":  rsaSigner.sign(t, claimsOf(p.URL, "aud", []string{"x", "freshet"})),
		"just expired":   rsaSigner.sign(t, claimsOf(p.URL, "exp", time.Now().Unix()-20)),
		"almost valid":   rsaSigner.sign(t, claimsOf(p.URL, "nbf", time.Now().Unix()+20)),
		"a fraction":     rsaSigner.sign(t, claimsOf(p.URL, "exp", float64(time.Now().Unix())+100.5)),
	} {
		who, err := r.ask(t, token)
		require.NoError(t, err, name)
		require.Equal(t, "ada", who.Subject, name)
		require.Equal(t, p.URL, who.Issuer, name)
	}
	exp := time.Now().Unix() + 60
	who, err := r.ask(t, rsaSigner.sign(t, claimsOf(p.URL, "exp", exp, "org", 9007199254740993, "level", 1.5, "in", map[string]any{"n": []any{1}})))
	require.NoError(t, err)
	require.Equal(t, time.Unix(exp+30, 0), who.Expires)
	require.Equal(t, int64(9007199254740993), who.Claims["org"])
	require.Equal(t, 1.5, who.Claims["level"]) //nolint:testifylint // it is exact
	require.Equal(t, map[string]any{"n": []any{int64(1)}}, who.Claims["in"])
}

// Each is refused, for what is wrong with it, and nobody is told more.
func TestVerify_bad(t *testing.T) {
	p := newProvider(t, rsaSigner, ecSigner)
	other := newProvider(t, edSigner)
	r := newRig(t, Config{Issuers: []string{p.URL, other.URL}})
	good := rsaSigner.sign(t, claimsOf(p.URL))
	parts := strings.Split(good, ".")
	body := func(claims map[string]any) string {
		text, err := json.Marshal(claims)
		require.NoError(t, err)
		return b64(string(text))
	}
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	confused := func(secret []byte) string {
		text := b64(`{"alg":"HS256","kid":"rsa-1","typ":"JWT"}`) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	thief := signer{"rsa-1", jose.RS256, otherRSA}
	kid := func(kid string) string { return signer{kid, jose.RS256, otherRSA}.sign(t, claimsOf(p.URL)) }
	now := time.Now().Unix()
	flipped, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	flipped[10] ^= 1
	jwe := func() string {
		encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: rsaKey.Public()}, nil)
		require.NoError(t, err)
		made, err := encrypter.Encrypt([]byte(`{"sub":"ada"}`))
		require.NoError(t, err)
		text, err := made.CompactSerialize()
		require.NoError(t, err)
		return text
	}

	for name, tt := range map[string]struct {
		token string
		want  *Error
	}{
		"alg none":               {b64(`{"alg":"none"}`) + "." + parts[1] + ".", errMalformed},
		"alg NonE":               {b64(`{"alg":"NonE"}`) + "." + parts[1] + ".", errMalformed},
		"alg none, signed":       {b64(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], errMalformed},
		"no alg":                 {b64(`{"typ":"JWT"}`) + "." + parts[1] + "." + parts[2], errMalformed},
		"no signature":           {parts[0] + "." + parts[1] + ".", errKey},
		"HS256 with the RSA PEM": {confused(public), errKey},
		"HS256 with the RSA DER": {confused(der), errKey},
		"ES256 with an RSA kid":  {signer{"rsa-1", jose.ES256, ecKey}.sign(t, claimsOf(p.URL)), errKey},
		"RS512 for an RS256 key": {signer{"rsa-1", jose.RS512, rsaKey}.sign(t, claimsOf(p.URL)), errKey},
		"wrong curve":            {signer{"ec-1", jose.ES384, ec384}.sign(t, claimsOf(p.URL)), errKey},
		"ES256 by P-384":         {b64(`{"alg":"ES256","kid":"ec-1"}`) + "." + parts[1] + "." + b64(strings.Repeat("x", 96)), errKey},
		"zero ECDSA signature":   {b64(`{"alg":"ES256","kid":"ec-1"}`) + "." + parts[1] + "." + b64(strings.Repeat("\x00", 64)), errKey},
		"another key":            {thief.sign(t, claimsOf(p.URL)), errKey},
		"another issuer's key":   {edSigner.sign(t, claimsOf(p.URL)), errKey},
		"kid a path":             {kid("../../../../dev/null"), errKey},
		"kid SQL":                {kid("x' UNION SELECT 'secret"), errKey},
		"kid a URL":              {kid("http://127.0.0.1:1/keys"), errKey},
		"kid very long":          {kid(strings.Repeat("k", 8000)), errKey},
		"kid a number":           {b64(`{"alg":"RS256","kid":7}`) + "." + parts[1] + "." + parts[2], errMalformed},
		"jwk embedded":           {thief.sign(t, claimsOf(p.URL), "jwk", thief.jwk()), errKey},
		"jku":                    {thief.sign(t, claimsOf(p.URL), "jku", other.URL+"/keys"), errKey},
		"x5u":                    {thief.sign(t, claimsOf(p.URL), "x5u", other.URL+"/keys"), errKey},
		"crit":                   {rsaSigner.sign(t, claimsOf(p.URL), "crit", []string{"exp"}, "exp", 1), errMalformed},
		"crit b64":               {rsaSigner.sign(t, claimsOf(p.URL), "crit", []string{"b64"}, "b64", true), errMalformed},
		"typ of a logout token":  {rsaSigner.sign(t, claimsOf(p.URL), "typ", "logout+jwt"), errType},
		"typ a number":           {rsaSigner.sign(t, claimsOf(p.URL), "typ", 1), errType},
		"issuer unknown":         {rsaSigner.sign(t, claimsOf("https://evil.example")), errIssuer},
		"issuer with a slash":    {rsaSigner.sign(t, claimsOf(p.URL+"/")), errIssuer},
		"issuer missing":         {rsaSigner.sign(t, claimsOf(p.URL, "iss", nil)), errIssuer},
		"issuer a list":          {rsaSigner.sign(t, claimsOf(p.URL, "iss", []string{p.URL})), errMalformed},
		"audience wrong":         {rsaSigner.sign(t, claimsOf(p.URL, "aud", "billing")), errAudience},
		"audience missing":       {rsaSigner.sign(t, claimsOf(p.URL, "aud", nil)), errAudience},
		"audience an object":     {rsaSigner.sign(t, claimsOf(p.URL, "aud", map[string]any{"freshet": 1})), errAudience},
		"expired":                {rsaSigner.sign(t, claimsOf(p.URL, "exp", now-31)), errExpired},
		"no exp":                 {rsaSigner.sign(t, claimsOf(p.URL, "exp", nil)), errNoExpiry},
		"exp null":               {rsaSigner.sign(t, `{"iss":"`+p.URL+`","sub":"ada","aud":"freshet","exp":null}`), errNoExpiry},
		"exp text":               {rsaSigner.sign(t, claimsOf(p.URL, "exp", "9999999999")), errMalformed},
		"exp far too far":        {rsaSigner.sign(t, `{"iss":"`+p.URL+`","sub":"ada","aud":"freshet","exp":1e300}`), errMalformed},
		"exp beyond floats":      {rsaSigner.sign(t, `{"iss":"`+p.URL+`","sub":"ada","aud":"freshet","exp":1e999}`), errMalformed},
		"nbf to come":            {rsaSigner.sign(t, claimsOf(p.URL, "nbf", now+60)), errEarly},
		"iat to come":            {rsaSigner.sign(t, claimsOf(p.URL, "iat", now+60)), errEarly},
		"no subject":             {rsaSigner.sign(t, claimsOf(p.URL, "sub", nil)), errSubject},
		"subject a number":       {rsaSigner.sign(t, claimsOf(p.URL, "sub", 7)), errSubject},
		"huge":                   {rsaSigner.sign(t, claimsOf(p.URL, "x", strings.Repeat("x", 20_000))), errTooLong},
		"truncated":              {good[:len(good)-40], errKey},
		"two parts":              {parts[0] + "." + parts[1], errMalformed},
		"four parts":             {good + "." + parts[2], errMalformed},
		"many dots":              {strings.Repeat(".", 16_000), errMalformed},
		"a JWE":                  {jwe(), errMalformed},
		"bad base64":             {parts[0] + "." + parts[1] + "!." + parts[2], errMalformed},
		"padded base64":          {parts[0] + "=." + parts[1] + "." + parts[2], errMalformed},
		"a bit flipped":          {parts[0] + "." + parts[1] + "." + b64(string(flipped)), errKey},
		"another payload":        {parts[0] + "." + body(claimsOf(p.URL, "sub", "root")) + "." + parts[2], errKey},
		"a claim twice":          {rsaSigner.sign(t, `{"iss":"`+p.URL+`","sub":"ada","sub":"root","aud":"freshet","exp":9999999999}`), errMalformed},
		"an inner name twice":    {rsaSigner.sign(t, `{"iss":"`+p.URL+`","sub":"ada","aud":"freshet","exp":9999999999,"a":{"b":1,"b":2}}`), errMalformed},
		"alg twice":              {b64(`{"alg":"none","alg":"RS256"}`) + "." + parts[1] + "." + parts[2], errMalformed},
		"claims a list":          {rsaSigner.sign(t, `["ada"]`), errMalformed},
		"claims null":            {rsaSigner.sign(t, `null`), errMalformed},
		"claims and more":        {rsaSigner.sign(t, `{"sub":"ada"}{"sub":"root"}`), errMalformed},
		"deep":                   {rsaSigner.sign(t, `{"a":`+strings.Repeat("[", 11_000)+`}`), errMalformed},
		"no JSON":                {rsaSigner.sign(t, "hello"), errMalformed},
		"a JWS in JSON":          {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, errMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			// Past what header parsing refuses by itself.
			_, err := r.verify(new(http.Request).WithContext(t.Context()), tt.token)
			var known *Error
			require.ErrorAs(t, err, &known)
			require.Equal(t, tt.want, known)
			// The answer holds fixed words and nothing else.
			if strings.Contains(tt.token, ",") {
				return // no header holds it
			}
			_, err = r.ask(t, tt.token)
			require.Error(t, err)
			var public *connect.Error
			require.ErrorAs(t, err, &public)
			require.Equal(t, connect.CodeUnauthenticated, public.Code())
			require.Equal(t, `Bearer realm="freshet", error="invalid_token", error_description="`+known.Message+`"`, public.Meta().Get("WWW-Authenticate"))
		})
	}
	_, err = r.ask(t, good)
	require.NoError(t, err)
	require.LessOrEqual(t, p.fetches.Load()+other.fetches.Load(), int64(4), "tokens choose no fetches")
}

// A secret is one among the keys of a file, for HS256; a public key never is.
func TestKeyFile(t *testing.T) {
	secret := signer{"s", jose.HS256, []byte(strings.Repeat("s", 32))}
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	private, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text []byte) { require.NoError(t, os.WriteFile(path, text, 0o600)) }
	start := func() error {
		_, err := New(Config{KeyFile: path, Audiences: []string{"freshet"}})
		return err
	}
	require.ErrorIs(t, start(), os.ErrNotExist)
	for name, text := range map[string][]byte{
		"private PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"garbage":     []byte("hello"), "empty": nil, "no keys": []byte(`{"keys":[]}`),
		"a small one": jwks(t, signer{"x", jose.HS256, []byte("short")}),
		"PEM and":     append(public, "hello"...),
	} {
		write(text)
		require.ErrorContains(t, start(), "keys in ", name)
	}
	privateSet, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey, KeyID: "x"}}})
	require.NoError(t, err)
	write(privateSet)
	require.ErrorContains(t, start(), "private key")

	write(jwks(t, secret))
	r := newRig(t, Config{KeyFile: path})
	byPEM := signer{"whatever", jose.PS256, rsaKey}.sign(t, claimsOf("somebody"))
	bySecret := secret.sign(t, claimsOf("somebody"))
	_, err = r.ask(t, bySecret)
	require.NoError(t, err)
	_, err = r.ask(t, byPEM)
	requireReason(t, errKey, err)
	// The keys change: what they were is over, for tokens that are kept as well.
	write(public)
	require.NoError(t, r.Reload(t.Context()))
	_, err = r.ask(t, byPEM)
	require.NoError(t, err)
	_, err = r.ask(t, bySecret)
	requireReason(t, errKey, err)
	// Broken, it keeps the last good one.
	write([]byte("half a"))
	require.Error(t, r.Reload(t.Context()))
	_, err = r.ask(t, byPEM)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, r.Reload(t.Context()), os.ErrNotExist)
	_, err = r.ask(t, byPEM)
	require.NoError(t, err)
}

// F24: one issuer can't speak for another, nor a file for an issuer.
func TestVerify_F24_issuersApart(t *testing.T) {
	a, b := newProvider(t, rsaSigner), newProvider(t, ecSigner)
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, jwks(t, edSigner), 0o600))
	r := newRig(t, Config{Issuers: []string{a.URL, b.URL}, KeyFile: path})
	byA, err := r.ask(t, rsaSigner.sign(t, claimsOf(a.URL, "iss", a.URL)))
	require.NoError(t, err)
	byB, err := r.ask(t, ecSigner.sign(t, claimsOf(b.URL)))
	require.NoError(t, err)
	require.Equal(t, byA.Subject, byB.Subject)
	require.NotEqual(t, byA.Scope(), byB.Scope())
	_, err = r.ask(t, edSigner.sign(t, claimsOf(a.URL)))
	requireReason(t, errKey, err)
	_, err = r.ask(t, edSigner.sign(t, claimsOf("anybody else")))
	require.NoError(t, err)
}

func TestKept(t *testing.T) {
	p := newProvider(t, rsaSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}})
	token := rsaSigner.sign(t, claimsOf(p.URL, "exp", time.Now().Unix()+101)) // 100 s from now, and a part of another
	_, err := r.ask(t, token)
	require.NoError(t, err)
	entries, bytes := r.kept.Size()
	require.Equal(t, []int{1, sizeOf(token)}, []int{entries, bytes})
	r.ahead(129 * time.Second)
	_, err = r.ask(t, token)
	require.NoError(t, err)
	r.ahead(2 * time.Second)
	_, err = r.ask(t, token)
	requireReason(t, errExpired, err)
}

func BenchmarkAuthenticate(b *testing.B) {
	p := newProvider(b, rsaSigner)
	r := newRig(b, Config{Issuers: []string{p.URL}})
	one := request(b, "POST", "/x.v1.X/Y", "Authorization", "Bearer "+rsaSigner.sign(b, claimsOf(p.URL, "scope", strings.Repeat("messages.read ", 20))))
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Authenticate(one); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.kept = lru.New[[sha256.Size]byte, verified](keptBytes)
			if _, err := r.Authenticate(one); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("forged", func(b *testing.B) {
		bad := request(b, "POST", "/x.v1.X/Y", "Authorization", "Bearer "+signer{"rsa-1", jose.RS256, otherRSA}.sign(b, claimsOf(p.URL)))
		for b.Loop() {
			if _, err := r.Authenticate(bad); !errors.Is(err, errKey) {
				b.Fatal(err)
			}
		}
	})
}
