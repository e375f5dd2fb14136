package intercept

import (
	"context"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is remembered is the caller as it was, whatever its claims are made of.
func TestRemember(t *testing.T) {
	who := &Authenticator{}
	expires := time.Now().Add(time.Hour)
	ada := func(more map[string]any) Principal {
		claims := map[string]any{"iss": "x", "sub": "ada"}
		for name, value := range more {
			claims[name] = value
		}
		return Principal{Issuer: "x", Subject: "ada", Claims: claims, Expires: expires}
	}
	for name, one := range map[string]struct {
		Principal

		packed bool
	}{
		"a token's": {ada(map[string]any{
			"exp": int64(1 << 60), "f": 1.5, "big": 1e300, "ok": true, "none": nil, "text": "Ærø <&>\u2028", "empty": "",
			"list": []any{"a", int64(1), map[string]any{"b": []any{}}}, "object": map[string]any{},
		}), true},
		"no claims":           {Principal{Issuer: "x", Subject: "ada"}, false},
		"nobody":              {Principal{}, false},
		"claims of nobody":    {Principal{Claims: map[string]any{"tier": "free"}}, true},
		"empty claims":        {Principal{Claims: map[string]any{}}, true},
		"whose isn't said":    {Principal{Issuer: "x", Subject: "ada", Claims: map[string]any{"a": "b"}}, false},
		"somebody else's":     {Principal{Issuer: "x", Subject: "ada", Claims: map[string]any{"iss": "y", "sub": "eve"}}, true},
		"a whole float64":     {ada(map[string]any{"f": 1.0}), false},
		"an int":              {ada(map[string]any{"n": 1}), false},
		"strings":             {ada(map[string]any{"list": []string{"a"}}), false},
		"a json.Number":       {ada(map[string]any{"n": json.Number("1")}), false},
		"no list":             {ada(map[string]any{"list": []any(nil)}), false},
		"not a number":        {ada(map[string]any{"f": math.NaN()}), false},
		"not of UTF-8":        {ada(map[string]any{"text": "\xff"}), false},
		"what JSON can't say": {ada(map[string]any{"f": func() {}}), false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.WithValue(t.Context(), callerKey{}, caller{one.Principal.WithScope(), who})
			again := Remember(ctx)
			_, packed := again.(*remembered)
			require.Equal(t, one.packed, packed)

			got, known := Known(again)
			require.True(t, known)
			require.True(t, who.hasSeen(again))
			wantText, wantErr := one.JSON()
			gotText, gotErr := got.JSON()
			require.Equal(t, wantText, gotText)
			require.Equal(t, wantErr == nil, gotErr == nil)
			if wantErr == nil { // others are another one each time
				require.Equal(t, one.Scope(), got.Scope())
			}
			subject, until := CredentialOf(again)
			require.Equal(t, one.Subject, subject)
			require.Equal(t, one.Expires, until)
			require.Equal(t, one.Issuer, got.Issuer)
			require.Equal(t, one.Expires, got.Expires)
			if wantErr == nil { // NaN isn't itself, nor is a function
				require.Equal(t, one.Claims, got.Claims)
			}
			require.NoError(t, again.Err(), "it is nobody's request any more")
			_, bounded := again.Deadline()
			require.False(t, bounded)
		})
	}
	_, known := Known(Remember(t.Context()))
	require.False(t, known, "nobody has looked")
}

func BenchmarkRemember(b *testing.B) {
	who := caller{Principal: Principal{Issuer: "x", Subject: "ada", Claims: map[string]any{
		"iss": "x", "sub": "ada", "exp": int64(1), "iat": int64(1), "aud": "api", "scope": "openid messages",
	}}.WithScope(), by: &Authenticator{}}
	ctx := context.WithValue(b.Context(), callerKey{}, who)
	b.Run("once", func(b *testing.B) {
		for b.Loop() {
			Remember(ctx)
		}
	})
	b.Run("asked", func(b *testing.B) {
		again := Remember(ctx)
		for b.Loop() {
			PrincipalOf(again)
		}
	})
}
