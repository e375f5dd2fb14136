package grants

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/lru"
)

const sample = `
anonymous: {read: ["announcements/**"]}
rules:
  - when: "'messages.read' in claims.scope.split(' ')"
    read:  ["orgs/{org_id}/**"]
    write: ["orgs/{org_id}/projects/*/tasks/**"]
  - when: claims.admin
    read: ["**"]
  - read: ["users/{sub}/**", staff]
`

func parse(t testing.TB, text string) *Set {
	t.Helper()
	set, err := Parse("grants.yaml", []byte(text))
	require.NoError(t, err)
	return set
}

func claims(t testing.TB, text string) Caller {
	t.Helper()
	c := Caller{Subject: "ada"}
	require.NoError(t, json.Unmarshal([]byte(text), &c.Claims))
	return c
}

// The admin port is granted by name alone: no pattern does, however wide, nor does a
// token's own word.
func TestSet_admin(t *testing.T) {
	set := parse(t, `
anonymous: {read: ["**"], write: ["**"]}
authorization_details: true
rules:
  - {read: ["**"], write: ["**"]}
  - {when: claims.sub == 'prometheus', admin: true}
  - {when: claims.operator, admin: true, read: [staff]}
  - {when: claims.operator, admin: false, read: [staff]}
`)
	for text, want := range map[string]error{
		``:                     ErrDenied,
		`{}`:                   ErrDenied,
		`{"sub":"ada"}`:        ErrDenied,
		`{"sub":"prometheus"}`: nil,
		`{"operator":true}`:    nil,
		`{"operator":"true"}`:  ErrDenied,
		`{"sub":"eve","authorization_details":[{"type":"freshet","actions":["admin","read"],"topics":["**"]}],"admin":true}`: ErrDenied,
	} {
		var caller Caller
		if text != "" {
			caller = claims(t, text)
		}
		for range 2 { // as it is found out, and as it is kept
			require.ErrorIs(t, set.AuthorizeAdmin(t.Context(), caller), want, text)
		}
		e, err := set.Explain(t.Context(), caller, Admin, "")
		require.NoError(t, err)
		require.Equal(t, want == nil, e.Allowed, "%v", e)
		require.NotEmpty(t, e.Reasons)
	}
	require.ErrorIs(t, set.Authorize(t.Context(), claims(t, `{"sub":"prometheus"}`), Admin, []string{"staff"}), ErrDenied)
}

func TestSet_authorize(t *testing.T) {
	set := parse(t, sample)
	member := `{"sub":"ada","scope":"openid messages.read","org_id":"acme"}`
	for _, tt := range []struct {
		claims string // "": nobody
		action Action
		topics string
		want   bool
	}{
		{"", Read, "announcements/1", true},
		{"", Subscribe, "announcements/1", true},
		{"", Write, "announcements/1", false},
		{"", Read, "orgs/acme", false},
		{"", Read, "users/", false},
		{"", Read, "staff", false},
		{member, Read, "staff", true},
		{member, Read, "announcements/1", true},
		{member, Read, "orgs/acme/projects/7", true},
		{member, Subscribe, "orgs/acme/projects/7", true},
		{member, Read, "users/ada/x", true},
		{member, Read, "users/bob/x", false},
		{member, Read, "orgs/acme/x orgs/acme/y", true},
		{member, Read, "orgs/acme/x orgs/other/y", false},
		{member, Read, "orgs/other/y orgs/acme/x", false},
		{member, Write, "orgs/acme/projects/7/tasks/1", true},
		{member, Write, "orgs/acme/projects/7", false},
		{member, "delete", "orgs/acme/x", false},
		{member, "", "orgs/acme/x", false},
		{member, Read, "", false}, // no topics at all
		{`{"scope":"messages.reader","org_id":"acme"}`, Read, "orgs/acme/x", false},
		{`{"scope":["messages.read"],"org_id":"acme"}`, Read, "orgs/acme/x", false}, // no text: split fails
		{`{"org_id":"acme"}`, Read, "orgs/acme/x", false},
		{`{"org_id":"acme"}`, Read, "users/ada", true}, // the caller's name, in place of a claim
		{`{"scope":"messages.read","org_id":["acme","emca"]}`, Read, "orgs/emca/x", true},
		{`{"scope":"messages.read","org_id":{"acme":1}}`, Read, "orgs/acme/x", false},
		{`{"admin":true}`, Read, "anything/at/all", true},
		{`{"admin":true}`, Write, "anything/at/all", false},
		{`{"admin":false}`, Read, "anything", false},
		{`{"admin":"true"}`, Read, "anything", false},
		{`{"admin":1}`, Read, "anything", false},
		{`{"admin":null}`, Read, "anything", false},
		{`{"sub":"a/b"}`, Read, "users/a/b", false},
		{`{"sub":"a/b"}`, Read, "users/a%2Fb/x", true},
	} {
		var caller Caller
		if tt.claims != "" {
			caller = claims(t, tt.claims)
		}
		topics := strings.Fields(tt.topics)
		for range 2 { // found out, and kept
			err := set.Authorize(t.Context(), caller, tt.action, topics)
			if tt.want {
				require.NoError(t, err, "%+v", tt)
			} else {
				require.Equal(t, ErrDenied, err, "%+v", tt)
			}
		}
		explained := len(topics) > 0
		for _, topic := range topics {
			e, err := set.Explain(t.Context(), caller, tt.action, topic)
			require.NoError(t, err)
			require.NotEmpty(t, e.Reasons)
			explained = explained && e.Allowed
		}
		require.Equal(t, tt.want, explained, "explained: %+v", tt)
	}
}

// What a caller may is kept under all that is known of it.
func TestSet_sameSubjectOtherClaims(t *testing.T) {
	set := parse(t, sample)
	granted, denied := claims(t, `{"scope":"messages.read","org_id":"acme"}`), claims(t, `{"scope":"messages.read","org_id":"other"}`)
	for range 2 {
		require.NoError(t, set.Authorize(t.Context(), granted, Read, []string{"orgs/acme"}))
		require.Equal(t, ErrDenied, set.Authorize(t.Context(), denied, Read, []string{"orgs/acme"}))
	}
}

// A renewed token is another one: rules may look at what is new in it.
func TestSet_renewedToken(t *testing.T) {
	set := parse(t, `
rules:
  - when: claims.exp - claims.iat <= 300
    read: [short]
  - read: ["tokens/{jti}"]
`)
	for _, tt := range []struct {
		claims, topic string
		want          error
	}{
		{`{"sub":"ada","iat":1000,"exp":1300,"jti":"1"}`, "short", nil},
		{`{"sub":"ada","iat":1000,"exp":9000,"jti":"1"}`, "short", ErrDenied},
		{`{"sub":"ada","iat":1000,"exp":1300,"jti":"1"}`, "tokens/1", nil},
		{`{"sub":"ada","iat":1000,"exp":1300,"jti":"2"}`, "tokens/1", ErrDenied},
	} {
		require.Equal(t, tt.want, set.Authorize(t.Context(), claims(t, tt.claims), Read, []string{tt.topic}), "%+v", tt)
	}
}

func TestSet_details(t *testing.T) {
	detail := func(members string) Caller {
		return claims(t, `{"org":"acme","authorization_details":[{"type":"photos","topics":["x"]},{"type":"freshet",`+members+`}]}`)
	}
	on, off := parse(t, "authorization_details: true"), parse(t, "rules: []")
	for members, want := range map[string]string{
		`"actions":["read"],"topics":["a/**","o/{org}"]`:                          "",
		`"actions":["read","write"],"topics":["a/**","o/{org}"]`:                  "",
		`"actions":["write"],"topics":["a/**"]`:                                   "no patterns of read",
		`"topics":["a/**"]`:                                                       "actions is not a list",
		`"actions":[],"topics":["a/**"]`:                                          "actions is not a list",
		`"actions":"read","topics":["a/**"]`:                                      "actions is not a list",
		`"actions":["read",1],"topics":["a/**"]`:                                  "actions is not a list",
		`"actions":["read","all"],"topics":["a/**"]`:                              `no action "all"`,
		`"actions":["read"],"topics":"a/**"`:                                      "topics is not a list",
		`"actions":["read"],"topics":["a/**","a*"]`:                               "must fill their segment",
		`"actions":["read"],"topics":["a/**"],"locations":["https://x/"]`:         `"locations" that isn't known`,
		`"actions":["read"],"topics":["a/**"` + strings.Repeat(`,"b"`, 100) + `]`: "more than 100 patterns",
	} {
		caller := detail(members)
		require.Equal(t, ErrDenied, off.Authorize(t.Context(), caller, Read, []string{"a/b"}), members)
		err := on.Authorize(t.Context(), caller, Read, []string{"a/b"})
		if want == "" {
			require.NoError(t, err, members)
			require.NoError(t, on.Authorize(t.Context(), caller, Read, []string{"o/acme"}), members)
			continue
		}
		require.Equal(t, ErrDenied, err, members)
		e, err := on.Explain(t.Context(), caller, Read, "a/b")
		require.NoError(t, err)
		require.Contains(t, e.String(), want)
	}
	for _, text := range []string{`{"authorization_details":{"type":"freshet"}}`, `{"authorization_details":"freshet"}`, `{"authorization_details":[1,null,"freshet",{"type":["freshet"]}]}`} {
		require.Equal(t, ErrDenied, on.Authorize(t.Context(), claims(t, text), Read, []string{"a/b"}), text)
	}
}

func TestParse_errors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "grants.yaml: it is empty; if nobody may do anything, write `rules: []`",
		"# nothing":                              "it is empty",
		"~":                                      "grants.yaml:1: it is empty",
		"a: [":                                   "grants.yaml:1: it is not YAML",
		"rules: []\n\tx: 1":                      "it is not YAML",
		"rules: []\n---\nrules: []":              "leave out what follows",
		"- read: [a]":                            "grants.yaml:1: the file takes a mapping of anonymous, rules, authorization_details",
		"rule: []":                               `the file has no "rule": it takes anonymous, rules`,
		"rules: []\nrules: []":                   `grants.yaml:2: "rules" stands there twice`,
		"rules: {}":                              "begin each rule with -",
		"rules: [a]":                             "grants.yaml:1: rule 1: a rule takes a mapping of when, read, write",
		"rules: [{}]":                            "rule 1: it grants nothing",
		"rules:\n- when: 'true'":                 "grants.yaml:2: rule 1: it grants nothing",
		"rules:\n- read: []":                     "it grants nothing",
		"rules:\n- read: a/**":                   `rule 1: read takes a list of patterns, as ["orgs/{org}/**"]`,
		"rules:\n- read: [a]\n- reads: [a]":      `grants.yaml:3: rule 2: a rule has no "reads"`,
		"rules:\n- read: [{org}]":                "rule 1: read: a pattern is a text; put it into quotes",
		"rules:\n- read: [a, ~]":                 "rule 1: read: there is no pattern here",
		"rules:\n- read:\n  - a\n  -":            "grants.yaml:4: rule 1: read: there is no pattern here",
		"rules:\n- read:\n  - 'a/{b'":            `grants.yaml:3: rule 1: read: pattern "a/{b": at offset 2: { is not closed`,
		"rules:\n- {when: , read: [a]}":          "leave it out if the rule always applies",
		"rules:\n- {when: [a], read: [a]}":       "when takes an expression in CEL",
		"rules:\n- {when: 'claim.x', read: [a]}": "grants.yaml:2: rule 1: when: undeclared reference to 'claim' (in container '') (at 1:1 of the expression; it is CEL, over the variable claims)",
		"rules:\n- {when: 'claims.x ==', read: [a]}":                           "Syntax error",
		"rules:\n- {when: \"'a'\", read: [a]}":                                 "it is of type string, not a condition",
		"rules:\n- {when: '" + strings.Repeat("!", 4097) + "true', read: [a]}": "expression code point size exceeds limit",
		"anonymous: {read: ['a/{b}']}":                                         `grants.yaml:1: anonymous: pattern "a/{b}": who isn't known has no claims; write a rule`,
		"anonymous: []":                                                        "anonymous takes a mapping of read, write",
		"anonymous: {admin: true}":                                             `anonymous has no "admin"`,
		"rules: [{admin: [a]}]":                                                "rule 1: admin takes true or false",
		"rules: [{admin: false}]":                                              "it grants nothing",
		"authorization_details: maybe":                                         "takes true or false",
		"x: " + strings.Repeat("a", 1<<20):                                     "it has more than 1048576 bytes",
		"rules:\n" + strings.Repeat("- read: [a]\n", 1001):                     "1001 rules: at most 1000",
		"a: &a [*a]\nrules: *a":                                                `no "a"`,
	} {
		_, err := Parse("grants.yaml", []byte(text))
		var ferr *FileError
		require.ErrorAs(t, err, &ferr, text)
		require.Contains(t, err.Error(), want, "%.80s", text)
	}
	// All of it at once, and not without end.
	_, err := Parse("g", []byte("rules:\n"+strings.Repeat("- {when: 'x', reads: [a], read: ['{']}\n", 30)))
	require.Len(t, strings.Split(err.Error(), "\n"), maxProblems+1)
	require.Contains(t, err.Error(), "… and 70 more")
}

// An anchor saves repetition.
func TestParse_alias(t *testing.T) {
	set := parse(t, "rules:\n- read: &all [a, b]\n  write: *all\n")
	require.NoError(t, set.Authorize(t.Context(), Caller{Subject: "x"}, Write, []string{"a", "b"}))
}

// An expression that costs too much for a token's claims is false, whether that is found
// out soon or, on a slow machine, after longer than one caller's rules may take.
func TestSet_costIsBounded(t *testing.T) {
	const when = "claims.list.all(a, claims.list.all(b, claims.list.all(c, a + b + c >= 0)))"
	list := make([]any, 1000)
	for i := range list {
		list[i] = 1.0
	}
	c, err := newCondition(when)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ok, unmet, err := c.holds(ctx, map[string]any{"list": list})
	require.NoError(t, err)
	require.False(t, ok)
	require.ErrorContains(t, unmet, "cost limit exceeded")

	set := parse(t, `rules: [{when: "`+when+`", read: ["**"]}]`)
	caller := Caller{Subject: "x", Claims: map[string]any{"list": list}}
	require.Error(t, set.Authorize(t.Context(), caller, Read, []string{"a"}))
	caller.Claims = map[string]any{"list": list[:8]}
	require.NoError(t, set.Authorize(t.Context(), caller, Read, []string{"a"}))
}

func TestKept_isBounded(t *testing.T) {
	set := parse(t, `rules: [{read: ["orgs/{org}/**"]}]`)
	most := 100 * (mayOverhead + boundOverhead + valueOverhead)
	set.kept = lru.New[[sha256.Size]byte, *may](most)
	kept := func() (entries int) {
		entries, bytes := set.kept.Size()
		require.LessOrEqual(t, bytes, most)
		return entries
	}
	for i := range 1000 {
		name := fmt.Sprint("o", i)
		require.NoError(t, set.Authorize(t.Context(), Caller{Claims: map[string]any{"org": name}}, Read, []string{"orgs/" + name}))
		require.LessOrEqual(t, kept(), 100)
	}
	require.Equal(t, 100, kept())
	many := make([]any, 500)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	require.NoError(t, set.Authorize(t.Context(), Caller{Claims: map[string]any{"org": many}}, Read, []string{"orgs/7"}))
	require.Equal(t, 100, kept(), "what would push out most others isn't kept")
}

func TestCaller_digest(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, c := range []Caller{
		{}, {Issuer: "a"}, {Subject: "a"}, {Issuer: "ab"}, {Issuer: "a", Subject: "b"},
		claims(t, `{}`), claims(t, `{"a":1}`), claims(t, `{"a":"1"}`), claims(t, `{"a":[1]}`), claims(t, `{"a":null}`), claims(t, `{"a":true}`),
		claims(t, `{"a":{"b":1}}`), claims(t, `{"a":{},"b":1}`), claims(t, `{"a":["b","c"]}`), claims(t, `{"a":["bc"]}`), claims(t, `{"a":[["b"],"c"]}`),
		claims(t, `{"a":[["b","c"]]}`), claims(t, `{"a":"b","c":"d"}`), claims(t, `{"a":"bscsd"}`), {Claims: map[string]any{"a": json.Number("1")}},
	} {
		digest, ok := c.Digest()
		require.True(t, ok)
		again, _ := c.Digest()
		require.Equal(t, digest, again)
		require.Empty(t, seen[digest], "%+v", c)
		seen[digest] = fmt.Sprintf("%+v", c)
	}
	_, ok := (&Caller{Claims: map[string]any{"a": []any{struct{}{}}}}).Digest()
	require.False(t, ok)
	// Then nothing is kept, and the rest works.
	set := parse(t, sample)
	odd := Caller{Subject: "ada", Claims: map[string]any{"a": struct{}{}, "org_id": json.Number("7"), "scope": "messages.read"}}
	require.NoError(t, set.Authorize(t.Context(), odd, Read, []string{"orgs/7/x"}))
	entries, _ := set.kept.Size()
	require.Zero(t, entries)
}

func BenchmarkAuthorize(b *testing.B) {
	set := parse(b, sample)
	caller := claims(b, `{"iss":"https://issuer.example","sub":"ada","aud":["api","web"],"exp":1790000000,"iat":1780000000,"jti":"4f1c2a",
		"scope":"openid email messages.read","org_id":"acme","email":"ada@example.com","email_verified":true,"roles":["a","b","c"],
		"realm_access":{"roles":["x","y"]}}`)
	topics := []string{"orgs/acme/projects/7/tasks"}
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := set.Authorize(b.Context(), caller, Read, topics); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := set.ask(b.Context(), &caller); err != nil {
				b.Fatal(err)
			}
		}
	})
}
