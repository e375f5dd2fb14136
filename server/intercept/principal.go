package intercept

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"time"
)

// Principal is who calls, as Authenticate has found out. The zero value is the
// anonymous caller. It is read only, Claims and what is in them too: many calls
// share it.
type Principal struct {
	// Issuer is who vouches for Subject. Two issuers' subjects of one name are two
	// principals.
	Issuer string
	// Subject names the caller, among those of Issuer. Empty: nobody in particular.
	Subject string
	// Claims are all that Issuer says of the caller: a token's claims, `iss` and
	// `sub` among them. Values are nil, bool, string, int64, float64, []any and
	// map[string]any; whole numbers that an int64 holds are int64. Nil: it says
	// nothing.
	Claims map[string]any
	// Expires is from when on the credential isn't accepted any more: for a token
	// its `exp` and the clock skew that is allowed for. Zero: never.
	Expires time.Time

	scope string // what Scope returns, if WithScope has looked
}

// IsAnonymous reports whether nobody vouches for the caller.
func (p Principal) IsAnonymous() bool { return p.Issuer == "" && p.Subject == "" }

// Scope is whose answers may be given to the caller: everything that an answer may
// depend on, of issuer, subject and claims. A claim that is another one for each
// token, and says nothing of the caller, isn't: `exp`, `iat`, `nbf`, `jti`. So
// the answers of yesterday's token serve today's, until one says more, or less.
// It is a digest: nobody can read claims out of it.
func (p Principal) Scope() string {
	if p.scope == "" && (p.Claims != nil || !p.IsAnonymous()) {
		return scopeOf(p)
	}
	return p.scope
}

// WithScope returns p with its scope worked out: for those who keep it and have
// it call more than once.
func (p Principal) WithScope() Principal {
	p.scope = p.Scope()
	return p
}

func scopeOf(p Principal) string {
	claims := make(map[string]any, len(p.Claims))
	for name, value := range p.Claims {
		switch name {
		case "exp", "iat", "nbf", "jti":
		default:
			claims[name] = value
		}
	}
	// Maps are encoded in the order of their keys. An array keeps issuer, subject
	// and claims apart, whatever they hold.
	text, err := json.Marshal([]any{p.Issuer, p.Subject, claims})
	if err != nil {
		// Claims of another authenticator that JSON doesn't know: they may differ in
		// just that. The caller shares with nobody, itself included.
		return rand.Text()
	}
	digest := sha256.Sum256(text)
	return string(digest[:])
}
