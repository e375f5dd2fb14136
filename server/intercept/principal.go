package intercept

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
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

	scope, text string // what Scope and JSON return, if WithScope has looked
}

// IsAnonymous reports whether nobody vouches for the caller.
func (p Principal) IsAnonymous() bool { return p.Issuer == "" && p.Subject == "" }

// Name is issuer and subject in one text, which no other principal has. Empty: nobody
// vouches for the caller.
func (p Principal) Name() string {
	if p.IsAnonymous() {
		return ""
	}
	return p.Issuer + "\x00" + p.Subject
}

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

// WithScope returns p with its scope and its JSON worked out: for those who keep it
// and have it call more than once.
func (p Principal) WithScope() Principal {
	p.scope = p.Scope()
	p.text, _ = p.JSON() // who asks for it is told the error
	return p
}

// JSON is Claims as a JSON object, with `iss` and `sub` where they leave out what
// Issuer and Subject say. It is ASCII. The error says that Claims hold what JSON
// doesn't know.
func (p Principal) JSON() (string, error) {
	if p.text != "" {
		return p.text, nil
	}
	claims := p.named()
	if len(claims) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("claims as JSON: %w", err)
	}
	return ascii(text), nil
}

// named is Claims with `iss` and `sub`.
func (p Principal) named() map[string]any {
	claims := p.Claims
	for name, value := range map[string]string{"iss": p.Issuer, "sub": p.Subject} {
		if _, there := p.Claims[name]; !there && value != "" {
			if claims = maps.Clone(claims); claims == nil {
				claims = make(map[string]any)
			}
			claims[name] = value
		}
	}
	return claims
}

// ascii is JSON without characters that a database's encoding may not have.
func ascii(text []byte) string {
	if !slices.ContainsFunc(text, func(c byte) bool { return c >= utf8.RuneSelf }) {
		return string(text)
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			b.WriteByte(byte(r))
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.String()
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
