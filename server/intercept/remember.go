package intercept

import (
	"context"
	"reflect"
	"time"

	"github.com/freshet-dev/freshet/internal/claims"
)

// Remember returns a context of its own with ctx's caller, and nothing else of it: for
// a stream, which is asked about again for as long as it is open.
func Remember(ctx context.Context) context.Context {
	c, known := ctx.Value(callerKey{}).(caller)
	if !known {
		return context.Background()
	}
	// A map of claims is several times as large as their text. Claims that aren't what
	// JSON makes of them, or leave out whose they are, are kept as they are.
	if text, err := c.JSON(); err == nil {
		if again, err := claims.Parse([]byte(text)); err == nil && reflect.DeepEqual(again, c.Claims) {
			return &remembered{Context: context.Background(), by: c.by, issuer: c.Issuer, subject: c.Subject, expires: c.Expires, claims: text}
		}
	}
	c.text = "" // it is for the database, and a stream asks none
	return context.WithValue(context.Background(), callerKey{}, c)
}

// CredentialOf returns what ctx's caller has come with: whom it names, and when it
// expires. It looks at no claims.
func CredentialOf(ctx context.Context) (subject string, expires time.Time) {
	if r, ok := ctx.(*remembered); ok {
		return r.subject, r.expires
	}
	p := PrincipalOf(ctx)
	return p.Subject, p.Expires
}

// remembered is a context with a caller whose claims are JSON until somebody asks.
type remembered struct {
	context.Context

	by              *Authenticator
	issuer, subject string
	expires         time.Time
	claims          string // Parse can read it
}

// Value implements context.Context.
func (r *remembered) Value(key any) any {
	if key != (callerKey{}) {
		return nil
	}
	all, _ := claims.Parse([]byte(r.claims)) // as it could before
	return caller{Principal{Issuer: r.issuer, Subject: r.subject, Claims: all, Expires: r.expires}, r.by}
}
