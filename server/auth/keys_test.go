package auth

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/follow"
)

func TestParseKeys(t *testing.T) {
	secret := signer{"s", jose.HS256, []byte(strings.Repeat("s", 32))}
	small := signer{"small", jose.RS256, newRSA(1024)}
	encrypts := rsaSigner.jwk()
	encrypts.Use = "enc"
	forEncryption, err := json.Marshal(encrypts)
	require.NoError(t, err)
	unknown := `{"kty":"XYZ","kid":"x"},{"kty":"RSA","n":"!","e":"AQAB"},{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"},` + string(forEncryption)
	good, err := json.Marshal(ecSigner.jwk())
	require.NoError(t, err)

	// What isn't understood, or for something else, is left out.
	for name, tt := range map[string]struct {
		text   string
		inFile bool
		want   []string
	}{
		"a file's secret":         {string(jwks(t, secret, ecSigner)), true, []string{"s", "ec-1"}},
		"a secret for everybody":  {string(jwks(t, secret, ecSigner)), false, []string{"ec-1"}},
		"too small":               {string(jwks(t, small, ecSigner)), false, []string{"ec-1"}},
		"others beside":           {`{"keys":[` + unknown + `,` + string(good) + `]}`, false, []string{"ec-1"}},
		"an algorithm that isn't": {string(jwks(t, signer{"x", "RS256", ecKey}, ecSigner)), false, []string{"ec-1"}},
	} {
		set, err := parseKeys([]byte(tt.text), tt.inFile)
		require.NoError(t, err, name)
		var got []string
		for _, k := range set.keys {
			got = append(got, k.id)
		}
		require.Equal(t, tt.want, got, name)
	}
	many := slices.Repeat([]signer{ecSigner}, maxKeys+1)
	for want, text := range map[string][]byte{
		"more than 64":    jwks(t, many...),
		"too large":       []byte(strings.Repeat(" ", maxKeysBytes+1)),
		"there is no key": jwks(t, secret),
		"not a JWKS":      []byte("-----BEGIN PUBLIC KEY-----"),
	} {
		_, err := parseKeys(text, false)
		require.ErrorContains(t, err, want)
	}
	_, err = newKey("", &newEC(elliptic.P224()).PublicKey)
	require.ErrorContains(t, err, "curve")
}

// transport answers in the place of an issuer.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An issuer that takes connections and says nothing: a fetch ends, and so does
// whoever waits for it.
func TestIssuer_silent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "https://id.example.com"
		r := newRig(t, Config{Issuers: []string{name}, Transport: transport(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		began := time.Now()
		_, err := r.ask(t, rsaSigner.sign(t, claimsOf(name)))
		requireReason(t, errUnreachable, err)
		require.Equal(t, fetchTimeout, time.Since(began))
		// Nor does anybody wait who has gone, or for an issuer that nobody asks.
		idle, err := New(Config{Issuers: []string{name}, Audiences: []string{"freshet"}})
		require.NoError(t, err)
		began = time.Now()
		_, err = idle.verify(new(http.Request).WithContext(t.Context()), rsaSigner.sign(t, claimsOf(name)))
		requireReason(t, errUnreachable, err.(*Error).connect()) //nolint:errorlint,forcetypeassert // it is
		require.Equal(t, patience, time.Since(began))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = idle.verify(new(http.Request).WithContext(ctx), rsaSigner.sign(t, claimsOf(name)))
		require.ErrorIs(t, err, errUnreachable)
		require.Equal(t, patience, time.Since(began))
	})
}

// A file is looked at by itself, and what is broken is told once.
func TestKeyFile_changes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text []byte) { require.NoError(t, os.WriteFile(path, text, 0o600)) }
	write(jwks(t, rsaSigner))
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, Config{KeyFile: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		_, err := r.ask(t, ecSigner.sign(t, claimsOf("x")))
		requireReason(t, errKey, err)
		write(jwks(t, ecSigner))
		time.Sleep(2 * follow.Interval)
		synctest.Wait()
		_, err = r.ask(t, ecSigner.sign(t, claimsOf("x")))
		require.NoError(t, err)
		require.Contains(t, log.String(), "were read again")

		write([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}`))
		time.Sleep(5 * follow.Interval)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(log.String(), "those of before are kept"))
		require.NotContains(t, log.String(), "c2VjcmV0")
		require.Error(t, r.Reload(t.Context())) // whoever asks is told
		require.Equal(t, 2, strings.Count(log.String(), "those of before are kept"))
		_, err = r.ask(t, ecSigner.sign(t, claimsOf("x")))
		require.NoError(t, err)
	})
}

// Keys come by https, whatever the document, or a redirect, says.
func TestIssuer_staysSafe(t *testing.T) {
	const name = "https://id.example.com"
	for _, keys := range []string{"http://id.example.com/keys", "http://127.0.0.1/keys", "file:///etc/passwd", "/keys", ""} {
		i := newIssuer(name, transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/.well-known/openid-configuration" {
				t.Errorf("asked for %s", r.URL)
				return nil, errors.New("no")
			}
			return answerWith(http.StatusOK, fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, name, keys)), nil
		}), nil)
		require.ErrorContains(t, i.fetch(t.Context()), "address", keys)
	}
	i := newIssuer(name, transport(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("followed to %s", r.URL)
		}
		answer := answerWith(http.StatusFound, "")
		answer.Header.Set("Location", "http://id.example.com/there")
		return answer, nil
	}), nil)
	require.ErrorContains(t, i.fetch(t.Context()), "away from https")
}

func answerWith(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}
