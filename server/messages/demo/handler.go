package demo

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
)

// maxBody: a form of one field.
const maxBody = 1 << 10

// session is what the page is told: never a token.
type session struct {
	Accounts []Account `json:"accounts"`
	// Account is who is signed in; empty: nobody.
	Account string `json:"account"`
	// ExpiresInMS is how long the token is good for yet, and LifeMS how long it
	// was when it was made.
	ExpiresInMS int64 `json:"expires_in_ms"`
	LifeMS      int64 `json:"life_ms"`
}

// Handler serves all below Path. Requests that change something have to come
// from our own origin, or from no browser.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+".well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET "+Path+"keys", i.keys)
	mux.HandleFunc("GET "+Path+"session", i.session)
	mux.HandleFunc("POST "+Path+"sign-in", i.signIn)
	mux.HandleFunc("POST "+Path+"renew", i.renew)
	mux.HandleFunc("POST "+Path+"sign-out", i.signOut)
	mux.HandleFunc("POST "+Path+"token", i.giveToken)
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, connect.CodePermissionDenied, "another site made this request")
	}))
	safe := cross.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		safe.ServeHTTP(w, r)
	})
}

// discovery is what OpenID Connect Discovery 1.0 section 3 requires of a provider,
// as far as there is something to say: tokens are asked for by Path alone.
func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"issuer":                                i.name,
		"jwks_uri":                              i.name + "/keys",
		"token_endpoint":                        i.name + "/token",
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.public}})
}

func (i *Issuer) session(w http.ResponseWriter, r *http.Request) {
	of, err := i.signedIn(r)
	if err != nil {
		of.expires = i.now() // nobody
	}
	i.tell(w, of.account, of.expires)
}

func (i *Issuer) signIn(w http.ResponseWriter, r *http.Request) {
	if account, ok := i.wanted(w, r); ok {
		i.give(w, account, newSession())
	}
}

func (i *Issuer) renew(w http.ResponseWriter, r *http.Request) {
	of, err := i.signedIn(r)
	if err != nil {
		refuse(w, http.StatusUnauthorized, connect.CodeUnauthenticated, err.Error()+": sign in")
		return
	}
	i.give(w, of.account, of.session)
}

// signOut takes the cookie back, and has every token of its session count no more.
func (i *Issuer) signOut(w http.ResponseWriter, r *http.Request) {
	if of, err := i.signedIn(r); err == nil {
		now := i.now()
		if !i.signedOut.add(of.session, now, now.Add(i.life+longer)) {
			refuse(w, http.StatusServiceUnavailable, connect.CodeResourceExhausted,
				"too many have signed out of late: do so again when some of their tokens have expired, or let yours expire")
			return
		}
		i.onSignOut()
	}
	i.setCookie(w, "", -1)
	i.tell(w, Account{}, i.now())
}

// giveToken is for those who send it themselves: in plain text, for a shell.
func (i *Issuer) giveToken(w http.ResponseWriter, r *http.Request) {
	account, ok := i.wanted(w, r)
	if !ok {
		return
	}
	token, err := i.token(account, newSession())
	if err != nil {
		refuse(w, http.StatusInternalServerError, connect.CodeInternal, "the token can't be made")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, token+"\n") // the peer has gone if it can't be told
}

// wanted returns the account that a form names, or answers that there is none.
func (i *Issuer) wanted(w http.ResponseWriter, r *http.Request) (Account, bool) {
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, status, connect.CodeInvalidArgument, "want a form with one field, account")
		return Account{}, false
	}
	account, ok := accountOf(r.PostForm.Get("account")) // not of the URL
	if !ok {
		refuse(w, http.StatusBadRequest, connect.CodeInvalidArgument, "want a form with one field, account: ada, bob or guest")
	}
	return account, ok
}

// signedIn returns whom the cookie belongs to.
func (i *Issuer) signedIn(r *http.Request) (login, error) {
	cookie, err := r.Cookie(Cookie)
	if err != nil {
		return login{}, errNotSignedIn
	}
	return i.read(cookie.Value)
}

// give signs somebody in, or on.
func (i *Issuer) give(w http.ResponseWriter, account Account, session string) {
	token, err := i.token(account, session)
	if err != nil {
		refuse(w, http.StatusInternalServerError, connect.CodeInternal, "the token can't be made")
		return
	}
	i.setCookie(w, token, int(i.life.Seconds()))
	i.tell(w, account, i.now().Add(i.life))
}

// setCookie: no script can read it, no other site's request carries it. Not Secure,
// which it would be anywhere but on loopback, where there is no TLS.
func (i *Issuer) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // see above
		Name: Cookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

func (i *Issuer) tell(w http.ResponseWriter, account Account, expires time.Time) {
	answer(w, session{
		Accounts:    Accounts(),
		Account:     account.Subject,
		ExpiresInMS: expires.Sub(i.now()).Milliseconds(),
		LifeMS:      i.life.Milliseconds(),
	})
}

func answer(w http.ResponseWriter, with any) {
	text, err := json.Marshal(with)
	if err != nil {
		refuse(w, http.StatusInternalServerError, connect.CodeInternal, "the answer can't be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // the peer has gone if it can't be told
}

// refuse answers in the form of Connect's errors.
func refuse(w http.ResponseWriter, status int, code connect.Code, message string) {
	text, err := json.Marshal(map[string]string{"code": code.String(), "message": message})
	if err != nil {
		text = nil // two strings always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
