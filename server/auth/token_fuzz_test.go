package auth

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// FuzzToken: whatever is made of a good token, who it names is who it named.
func FuzzToken(f *testing.F) {
	signer := signer{kid: "1", alg: jose.ES256, key: ecKey}
	file := filepath.Join(f.TempDir(), "keys.json")
	require.NoError(f, os.WriteFile(file, jwks(f, signer), 0o600))
	good := signer.sign(f, claimsOf("https://id.example.com"))
	part := strings.Split(good, ".")
	f.Add(good)
	f.Add(good + "=")
	f.Add(part[0] + "." + b64(`{"sub":"root","aud":"freshet","exp":9999999999}`) + "." + part[2])
	f.Add(b64(`{"alg":"none"}`) + "." + part[1] + ".")
	f.Add(b64(`{"alg":"HS256","kid":"1"}`) + "." + part[1] + "." + part[2])
	f.Add(`{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`)
	r := newRig(f, Config{KeyFile: file})
	f.Fuzz(func(t *testing.T, token string) {
		p, err := r.Authenticate(request(t, http.MethodPost, "/x.v1.X/Y", "Authorization", "Bearer "+token))
		if err != nil {
			require.True(t, p.IsAnonymous())
			var known *Error
			require.ErrorAs(t, err, &known)
			if len(token) > 8 {
				require.NotContains(t, err.Error(), token, "no part of a token is in an error")
			}
			return
		}
		require.Equal(t, "ada", p.Subject)
		require.Equal(t, "https://id.example.com", p.Issuer)
	})
}
