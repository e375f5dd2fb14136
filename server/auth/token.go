package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"github.com/freshet-dev/freshet/internal/claims"
	"github.com/freshet-dev/freshet/server/intercept"
)

// verify returns whose token it is.
func (a *Authenticator) verify(r *http.Request, token string) (intercept.Principal, error) {
	if len(token) > MaxTokenBytes {
		return intercept.Principal{}, errTooLong
	}
	digest := sha256.Sum256([]byte(token))
	if v, ok := a.kept.Get(digest); ok && v.isGood(a.now()) {
		return v.principal, nil
	}
	jws, claims, unread := read(token)
	iss, _ := claims["iss"].(string)
	sub, _ := claims["sub"].(string)
	budget, ok := a.budget(r, principal{iss, sub})
	if !ok {
		return intercept.Principal{}, errTooMany
	}
	v, err := verified{}, unread
	if err == nil {
		v, err = a.check(r.Context(), jws, claims, iss)
	}
	if err != nil {
		if budget != nil && !errors.Is(err, errUnreachable) { // which is nobody's fault
			budget.AllowN(a.now(), 1)
		}
		return intercept.Principal{}, err
	}
	a.kept.Put(digest, v, sizeOf(token))
	if budget != nil {
		a.failures.principals.of(principal{iss, sub})
	}
	return v.principal, nil
}

// budget returns what a bad token is charged to; nil: nothing is bounded. False: it
// isn't to be looked into.
func (a *Authenticator) budget(r *http.Request, named principal) (_ *rate.Limiter, ok bool) {
	if a.cfg.Caller == nil || a.cfg.MaxFailuresPerCaller < 0 {
		return nil, true
	}
	budget := a.failures.budget(a.cfg.Caller(r), named, a.now())
	return budget, budget != nil
}

// read takes a token apart, whose signature nobody has looked at yet.
func read(token string) (*jose.JSONWebSignature, map[string]any, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || strings.ContainsAny(token, "\r\n") { // base64 passes over those
		return nil, nil, errMalformed
	}
	header := jws.Signatures[0].Protected
	if !typeFits(header.ExtraHeaders) {
		return nil, nil, errType
	}
	if _, critical := header.ExtraHeaders["crit"]; critical {
		return nil, nil, errMalformed
	}
	claims, err := claims.Parse(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, nil, errMalformed
	}
	if iss, there := claims["iss"]; there {
		if _, ok := iss.(string); !ok {
			return nil, nil, errMalformed
		}
	}
	return jws, claims, nil
}

// check asks whether a token is good that says that it is from iss.
func (a *Authenticator) check(ctx context.Context, jws *jose.JSONWebSignature, claims map[string]any, iss string) (v verified, err error) {
	if v.from = a.sourceOf(iss); v.from == nil {
		return v, errIssuer
	}
	if v.set, err = signed(ctx, jws, jws.Signatures[0].Protected, v.from); err != nil {
		return v, err
	}
	v.principal, err = a.judge(claims)
	return v, err
}

// typeFits reports whether a token says that it is one for us. RFC 8725 section 3.11:
// tokens of other kinds are signed by the same keys.
func typeFits(header map[jose.HeaderKey]any) bool {
	typ, there := header[jose.HeaderType]
	if !there {
		return true
	}
	text, _ := typ.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "at+jwt"
}

// signed finds the key that a token is signed with, and returns the set that it is of.
func signed(ctx context.Context, jws *jose.JSONWebSignature, header jose.Header, from source) (*keySet, error) {
	keys, set, err := from.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if _, err := jws.Verify(key.verify); err == nil {
			return set, nil
		}
	}
	return nil, errKey
}

// judge returns the principal of claims that are known to be the issuer's.
func (a *Authenticator) judge(claims map[string]any) (p intercept.Principal, _ error) {
	now := a.now()
	expires, err := instant(claims["exp"])
	switch {
	case err != nil:
		return p, errMalformed
	case expires.IsZero():
		return p, errNoExpiry
	}
	if expires = expires.Add(a.cfg.ClockSkew); !now.Before(expires) {
		return p, errExpired
	}
	for _, name := range []string{"nbf", "iat"} {
		from, err := instant(claims[name])
		if err != nil {
			return p, errMalformed
		}
		if from.After(now.Add(a.cfg.ClockSkew)) {
			return p, errEarly
		}
	}
	if !a.isForUs(claims["aud"]) {
		return p, errAudience
	}
	sub, _ := claims["sub"].(string)
	if sub == "" {
		return p, errSubject
	}
	iss, _ := claims["iss"].(string)
	return intercept.Principal{Issuer: iss, Subject: sub, Claims: claims, Expires: expires}.WithScope(), nil
}

func (a *Authenticator) isForUs(aud any) bool {
	switch aud := aud.(type) {
	case string:
		return slices.Contains(a.cfg.Audiences, aud)
	case []any:
		return slices.ContainsFunc(aud, func(one any) bool {
			text, ok := one.(string)
			return ok && slices.Contains(a.cfg.Audiences, text)
		})
	}
	return false
}

// lastInstant is the last second of the year 9999: an instant after it is no
// instant but an overflow.
const lastInstant = 253402300799

var errInstant = errors.New("not an instant")

// instant reads a NumericDate: seconds since 1970, perhaps with a fraction. Nothing is
// the zero time.
func instant(claim any) (time.Time, error) {
	var seconds float64
	switch claim := claim.(type) {
	case nil:
		return time.Time{}, nil
	case int64:
		seconds = float64(claim)
	case float64:
		seconds = claim
	default:
		return time.Time{}, errInstant
	}
	if !(seconds > 0 && seconds <= lastInstant) { // NaN isn't either
		return time.Time{}, errInstant
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
