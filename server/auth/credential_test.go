package auth

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
)

func TestCredential(t *testing.T) {
	for name, tt := range map[string]struct {
		at     string
		header []string
		want   string
		cookie bool
		err    error
	}{
		"none":                {"/", nil, "", false, nil},
		"bearer":              {"/", []string{"Authorization", "Bearer a.b.c"}, "a.b.c", false, nil},
		"any case":            {"/", []string{"Authorization", "bEARER  a.b.c "}, "a.b.c", false, nil},
		"cookie":              {"/", []string{"Cookie", "x=1; session=a.b.c; y=2"}, "a.b.c", true, nil},
		"quoted cookie":       {"/", []string{"Cookie", `session="a.b.c"`}, "a.b.c", true, nil},
		"another cookie":      {"/", []string{"Cookie", "sessions=a; Session=b"}, "", false, nil},
		"basic":               {"/", []string{"Authorization", "Basic YTpi"}, "", false, errScheme},
		"an empty header":     {"/", []string{"Authorization", ""}, "", false, errScheme},
		"no token":            {"/", []string{"Authorization", "Bearer"}, "", false, errHeader},
		"only space":          {"/", []string{"Authorization", "Bearer  "}, "", false, errHeader},
		"two tokens":          {"/", []string{"Authorization", "Bearer a b"}, "", false, errHeader},
		"a list":              {"/", []string{"Authorization", "Bearer a,Bearer"}, "", false, errHeader},
		"two headers":         {"/", []string{"Authorization", "Bearer a", "Authorization", "Bearer a"}, "", false, errTwo},
		"header and cookie":   {"/", []string{"Authorization", "Bearer a", "Cookie", "session=a"}, "", false, errTwo},
		"two cookies":         {"/", []string{"Cookie", "session=a; session=b"}, "", false, errTwo},
		"two cookie headers":  {"/", []string{"Cookie", "session=a", "Cookie", "session=b"}, "", false, errTwo},
		"an empty cookie":     {"/", []string{"Cookie", "session="}, "", false, errCookie},
		"a cookie of nothing": {"/", []string{"Cookie", "session"}, "", false, errCookie},
		"a mangled cookie":    {"/", []string{"Cookie", "session=a b\\"}, "a b\\", true, nil}, // refused as a token, not taken for none
		"in the URL":          {"/events?topic=x&access_token=a.b.c", nil, "", false, errQuery},
		"disguised in it":     {"/events?access%5ftoken=a.b.c", []string{"Authorization", "Bearer a"}, "", false, errQuery},
		"a topic like it":     {"/events?topic=access_token", nil, "", false, nil},
	} {
		token, byCookie, err := credential(request(t, http.MethodGet, tt.at, tt.header...), "session")
		require.Equal(t, tt.err, err, name)
		require.Equal(t, tt.want, token, name)
		require.Equal(t, tt.cookie, byCookie, name)
	}
	token, _, err := credential(request(t, http.MethodGet, "/", "Cookie", "session=a"), "")
	require.NoError(t, err)
	require.Empty(t, token)
}

// Nobody is anonymous who sent something; and only if that is allowed.
func TestAuthenticate_anonymous(t *testing.T) {
	p := newProvider(t, rsaSigner)
	open := newRig(t, Config{Issuers: []string{p.URL}, Anonymous: true, Cookie: "session"})
	shut := newRig(t, Config{Issuers: []string{p.URL}, Cookie: "session"})
	who, err := open.Authenticate(request(t, http.MethodGet, "/events"))
	require.NoError(t, err)
	require.True(t, who.IsAnonymous())
	_, err = shut.Authenticate(request(t, http.MethodGet, "/events"))
	requireReason(t, errNone, err)
	var public *connect.Error
	require.ErrorAs(t, err, &public)
	require.Equal(t, `Bearer realm="freshet"`, public.Meta().Get("WWW-Authenticate"))
	for _, header := range [][]string{
		{"Authorization", "Bearer x"}, {"Authorization", "Basic x"}, {"Authorization", ""}, {"Cookie", "session="}, {"Cookie", "session=\x01"},
		{"Authorization", "Bearer x", "Cookie", "session=x"},
	} {
		_, err := open.Authenticate(request(t, http.MethodGet, "/events", header...))
		require.Error(t, err, header)
	}
}

// A browser sends its cookie wherever a page of another site points it.
func TestAuthenticate_crossOrigin(t *testing.T) {
	p := newProvider(t, rsaSigner)
	r := newRig(t, Config{Issuers: []string{p.URL}, Cookie: "session"})
	token := rsaSigner.sign(t, claimsOf(p.URL))
	cookie := []string{"Cookie", "session=" + token}
	for name, tt := range map[string]struct {
		method string
		header []string
		ok     bool
	}{
		"a page":                 {http.MethodGet, append([]string{"Sec-Fetch-Site", "cross-site"}, cookie...), true},
		"our own":                {http.MethodPost, append([]string{"Sec-Fetch-Site", "same-origin"}, cookie...), true},
		"our own, older browser": {http.MethodPost, append([]string{"Origin", "http://example.com"}, cookie...), true},
		"another site":           {http.MethodPost, append([]string{"Sec-Fetch-Site", "cross-site"}, cookie...), false},
		"a sister":               {http.MethodPost, append([]string{"Sec-Fetch-Site", "same-site"}, cookie...), false},
		"another, older browser": {http.MethodPost, append([]string{"Origin", "https://evil.example"}, cookie...), false},
		"by header":              {http.MethodPost, []string{"Sec-Fetch-Site", "cross-site", "Authorization", "Bearer " + token}, true},
	} {
		_, err := r.Authenticate(request(t, tt.method, "/x.v1.X/Y", tt.header...))
		if tt.ok {
			require.NoError(t, err, name)
			continue
		}
		requireReason(t, errCrossOrigin, err)
	}
}

func TestNew(t *testing.T) {
	good := Config{Issuers: []string{"https://id.example.com"}, Audiences: []string{"x"}}
	_, err := New(good)
	require.NoError(t, err)
	for want, change := range map[string]func(*Config){
		"nobody issues tokens": func(c *Config) { c.Issuers = nil },
		"no audience":          func(c *Config) { c.Audiences = nil },
		"leave /.well-known":   func(c *Config) { c.Issuers = []string{"https://id.example.com/.well-known/openid-configuration"} },
		"want https":           func(c *Config) { c.Issuers = []string{"http://id.example.com"} },
		"name of a cookie":     func(c *Config) { c.Cookie = "a b" },
	} {
		c := good
		change(&c)
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer a.b.c", "session=x", "a=b")
	f.Add("basic", "session", "access_token=x")
	f.Add("", `x=";session="; session="a"`, "%zz")
	f.Fuzz(func(t *testing.T, authorization, cookie, query string) {
		r := request(t, http.MethodGet, "/", "Authorization", authorization, "Cookie", cookie)
		r.URL.RawQuery = query
		token, byCookie, err := credential(r, "session")
		if err != nil {
			require.Empty(t, token)
			var known *Error
			require.ErrorAs(t, err, &known)
			return
		}
		require.NotEmpty(t, token) // there is a header: whatever it says, nobody is anonymous
		require.False(t, byCookie)
		require.True(t, strings.HasSuffix(strings.TrimRight(authorization, " "), token))
		// The cookie parser sees no less than net/http's.
		require.Empty(t, r.CookiesNamed("session"))
	})
}
