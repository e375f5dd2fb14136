package intercept

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// F24: whatever an answer may depend on tells two callers apart, and nothing else
// does.
func TestPrincipal_F24_scope(t *testing.T) {
	base := func(change func(*Principal)) Principal {
		p := Principal{
			Issuer: "https://a.example", Subject: "ada", Expires: time.Unix(1000, 0),
			Claims: map[string]any{"iss": "https://a.example", "sub": "ada", "org": int64(7), "exp": int64(1000), "jti": "1"},
		}
		change(&p)
		return p
	}
	same := base(func(*Principal) {})
	for name, other := range map[string]Principal{
		"issuer":  base(func(p *Principal) { p.Issuer = "https://b.example" }),
		"subject": base(func(p *Principal) { p.Subject = "bob" }),
		"a claim": base(func(p *Principal) { p.Claims["org"] = int64(8) }),
		"more":    base(func(p *Principal) { p.Claims["admin"] = true }),
		"less":    base(func(p *Principal) { delete(p.Claims, "org") }),
		// Where one ends and the other begins matters.
		"boundary": base(func(p *Principal) { p.Issuer, p.Subject = "https://a.exampl", "eada" }),
		"nobody":   {},
		"no claim": {Issuer: "https://a.example", Subject: "ada"},
	} {
		require.NotEqual(t, same.Scope(), other.Scope(), name)
	}
	later := base(func(p *Principal) {
		p.Expires = time.Unix(2000, 0)
		p.Claims["exp"], p.Claims["iat"], p.Claims["nbf"], p.Claims["jti"] = int64(2000), int64(1), int64(1), "2"
	})
	require.Equal(t, same.Scope(), later.Scope(), "yesterday's token")
	require.Equal(t, same.Scope(), same.WithScope().Scope())
	require.Empty(t, Principal{}.Scope(), "all who are anonymous are one")

	odd := base(func(p *Principal) { p.Claims["x"] = math.NaN() }) // JSON has none
	once, again := odd.Scope(), odd.Scope()
	require.NotEqual(t, once, again, "nothing says that it is the same")
}
