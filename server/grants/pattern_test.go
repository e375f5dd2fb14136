package grants

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

func matches(t *testing.T, text, topic string, claims map[string]any) bool {
	t.Helper()
	p, err := parsePattern(text)
	require.NoError(t, err)
	b, ok := p.bind((&Caller{Claims: claims}).claims())
	return ok && b.match(topic)
}

func TestPattern_match(t *testing.T) {
	for _, tt := range []struct {
		pattern, topic string
		want           bool
	}{
		{"messages", "messages", true},
		{"messages", "Messages", false},
		{"messages", "messages/", false},
		{"messages", "messages/1", false},
		{"a/*/c", "a/b/c", true},
		{"a/*/c", "a/b/d/c", false},
		{"a/*/c", "a/c", false},
		{"a/*", "a", false},
		{"a/*", "a/b%2Fc", true},
		{"a/**", "a", true},
		{"a/**", "a/b/c", true},
		{"a/**", "ab", false},
		{"a/**", "ab/c", false},
		{"**", "a", true},
		{"**", "a/b", true},
		{"**/c", "c", true},
		{"**/c", "a/b/c", true},
		{"**/c", "a/b/c/d", false},
		{"a/**/c", "a/c", true},
		{"a/**/c", "a", false},
		{"a/**/a", "a", false},
		{"a/**/c", "a/b/b/c", true},
		{"*/**/*", "a", false},
		{"*/**/*", "a/b", true},
		// Topics are texts: nothing is resolved or decoded.
		{"orgs/a/**", "orgs/a/../b", true},
		{"orgs/a/**", "orgs/../orgs/a", false},
		{"orgs/a/**", "orgs/%61/x", false},
		{"orgs/a%2Fb/*", "orgs/a/b/x", false},
		{"orgs/a%2Fb/*", "orgs/a%2fb/x", false},
		{"orgs/a%2Fb/*", "orgs/a%2Fb/x", true},
		// {org} is acme, {list} a and b, {n} 7, {b} true, {o.p} deep, {u/r:l} far.
		{"orgs/{org}/**", "orgs/acme", true},
		{"orgs/{org}/**", "orgs/acme/x/y", true},
		{"orgs/{org}/**", "orgs/acme2/x", false},
		{"orgs/{org}/**", "orgs/other/acme", false},
		{"{list}/x", "a/x", true},
		{"{list}/x", "b/x", true},
		{"{list}/x", "c/x", false},
		{"{list}/{list}", "a/a", true},
		{"{list}/{list}", "a/b", false},
		{"{list}/**/{list}", "b/a/b", true},
		{"{list}/**/{list}", "a/a/b", false},
		{"{n}/{b}", "7/true", true},
		{"{n}", "07", false},
		{"{o.p}", "deep", true},
		{"x/{u/r:l}/y", "x/far/y", true},
		// These grant nothing, whatever the topic.
		{"x/{absent}", "x/", false},
		{"x/{absent}", "x/{absent}", false},
		{"x/{absent}/**", "x", false},
		{"x/{empty}", "x/", false},
		{"x/{none}", "x/null", false},
		{"x/{o}", "x/p", false},
		{"x/{o.p.q}", "x/deep", false},
		{"x/{org.p}", "x/acme", false},
		{"x/{half}", "x/1.5", false},
		{"x/{huge}", "x/9007199254740992", false},
		{"x/{nothing}", "x/", false},
		{"x/{nested}", "x/a", false},
	} {
		claims := map[string]any{
			"org": "acme", "list": []any{"a", "b", "", nil, map[string]any{}}, "n": 7.0, "b": true,
			"o": map[string]any{"p": "deep"}, "u/r:l": "far", "empty": "", "none": nil, "half": 1.5,
			"huge": float64(1 << 53), "nothing": []any{}, "nested": []any{[]any{"a"}},
		}
		require.Equal(t, tt.want, matches(t, tt.pattern, tt.topic, claims), "%s on %s", tt.pattern, tt.topic)
	}
}

// A value fills its segment, and is no pattern, whatever is in it (G8).
func TestPattern_valuesNeverWiden(t *testing.T) {
	topics := []string{
		"orgs", "orgs/", "orgs/acme", "orgs/acme/x", "orgs/*", "orgs/*/x", "orgs/**", "orgs/-", "orgs/-/x", "orgs/..",
		"orgs/a/b", "orgs/a/b/x", "orgs/{org}", "orgs/{org}/x", "orgs/{list}/x", "orgs//x", "other",
	}
	for value, own := range map[string]string{
		"a/b": "orgs/a%2Fb", "*": "orgs/%2A", "**": "orgs/%2A%2A", "{org}": "orgs/%7Borg%7D", "{list}": "orgs/%7Blist%7D",
		"-": "orgs/%2D", "../orgs/acme": "orgs/..%2Forgs%2Facme", "a%2Fb": "orgs/a%252Fb", "acme/**": "orgs/acme%2F%2A%2A",
		"\x00": "orgs/%00", "é": "orgs/%C3%A9", "acme\n": "orgs/acme%0A",
	} {
		for _, claim := range []any{value, []any{value}, []any{value, value}} {
			claims := map[string]any{"org": claim, "list": []any{"acme"}}
			for _, topic := range topics {
				require.False(t, matches(t, "orgs/{org}", topic, claims), "%q on %s", value, topic)
				require.False(t, matches(t, "orgs/{org}/**", topic, claims), "%q on %s", value, topic)
			}
			require.True(t, matches(t, "orgs/{org}", own, claims), value)
			require.True(t, matches(t, "orgs/{org}/**", own+"/x", claims), value)
		}
	}
	// ".." has no byte to escape: it is a segment like any other, and that one only.
	require.True(t, matches(t, "orgs/{org}/x", "orgs/../x", map[string]any{"org": ".."}))
	require.False(t, matches(t, "orgs/{org}/**", "other/x", map[string]any{"org": ".."}))
}

func TestParsePattern_errors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "at offset 0: it is empty",
		"/a":                                  "at offset 0: an empty segment",
		"a//b":                                "at offset 2: an empty segment",
		"a/":                                  "at offset 2: an empty segment",
		"a*":                                  "at offset 1: * and ** must fill",
		"a/***":                               "at offset 2: * and ** must fill",
		"**/a/**":                             "at offset 5: a second **",
		"a/{b":                                "at offset 2: { is not closed",
		"a/{}":                                "at offset 3: a claim's name is missing",
		"a/{b}c":                              "at offset 5: a claim must fill its segment",
		"a/b{c}":                              "at offset 3: a claim must fill its segment",
		"a/b}":                                "at offset 3: a claim must fill its segment",
		"a/{b{c}":                             "at offset 4: { within the name",
		"a/{b..c}":                            "at offset 5: the name of a claim has an empty part",
		"a\tb":                                "at offset 1: a control character",
		"a\xff":                               "at offset 1: it is not valid UTF-8",
		"{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}": "more than 8 claims",
		strings.Repeat("a", 3000):             "a topic has 512 at most",
	} {
		_, err := parsePattern(text)
		var perr *patternError
		require.True(t, errors.As(err, &perr), text)
		require.Contains(t, err.Error(), want, text)
	}
}

// naive matches a pattern by writing it out for each choice of values, as
// patterns without claims, which the root package matches.
func naive(p *pattern, claims map[string]any, topic string) bool {
	texts := map[string]string{}
	var try func(left []claim) bool
	try = func(left []claim) bool {
		if len(left) > 0 {
			for _, text := range left[0].texts(claims) {
				texts[left[0].text] = text
				if try(left[1:]) {
					return true
				}
			}
			return false
		}
		parts := make([]string, len(p.segments))
		for i, s := range p.segments {
			switch s.kind {
			case anyOne:
				parts[i] = "*"
			case anyRest:
				parts[i] = "**"
			case value:
				parts[i] = texts[p.claims[s.claim].text]
			default:
				parts[i] = s.literal
			}
		}
		return freshet.Pattern(strings.Join(parts, "/")).Match(topic)
	}
	return try(p.claims)
}

func TestPattern_model(t *testing.T) {
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "..", "-", "%2F", "%2D", "%2A", "*", "{x}", "{y}"})
		parts := rapid.SliceOfN(part, 1, 6).Draw(t, "pattern")
		if at := rapid.IntRange(-1, len(parts)-1).Draw(t, "rest"); at >= 0 {
			parts[at] = "**"
		}
		text := strings.Join(parts, "/")
		p, err := parsePattern(text)
		require.NoError(t, err)
		one := rapid.SampledFrom([]any{"a", "b", "/", "-", "*", "**", "{x}", "..", "", nil, 1.0, true})
		claims := map[string]any{}
		for _, name := range []string{"x", "y"} {
			if v := rapid.OneOf(one, rapid.Map(rapid.SliceOfN(one, 0, 4), func(v []any) any { return v })).Draw(t, name); v != nil {
				claims[name] = v
			}
		}
		segment := rapid.SampledFrom([]string{"a", "b", "", "..", "-", "%2D", "%2F", "%2A", "%2A%2A", "%7Bx%7D", "*", "**", "{x}", "1", "true"})
		topic := strings.Join(rapid.SliceOfN(segment, 1, 7).Draw(t, "topic"), "/")
		b, ok := p.bind(claims)
		got := ok && b.match(topic)
		require.Equal(t, naive(p, claims, topic), got, "%s on %s with %v", text, topic, claims)
		if got {
			matched++
		}
	})
	require.Positive(t, matched, "the model has seen no match")
}

func FuzzPattern(f *testing.F) {
	for _, seed := range []string{"orgs/{org}/**", "a/*/c", "{https://x/y}/**/{a.b}", "**", "a//b", "{a}{b}", "a/{b/c", "%2F/../-"} {
		f.Add(seed, "orgs/acme/x", "acme")
	}
	f.Fuzz(func(t *testing.T, text, topic, v string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		claims := map[string]any{}
		for _, c := range p.claims {
			object := claims
			for _, member := range c.path[:len(c.path)-1] {
				next, ok := object[member].(map[string]any)
				if !ok {
					next = map[string]any{}
					object[member] = next
				}
				object = next
			}
			object[c.path[len(c.path)-1]] = v
		}
		b, ok := p.bind(claims)
		if got := ok && b.match(topic); got != naive(p, claims, topic) {
			t.Fatalf("%q on %q with %q: %v", text, topic, v, got)
		}
	})
}

// Whatever topic a client makes up, and whatever is in a claim: {org} stands for its
// own segment alone.
func FuzzTopic(f *testing.F) {
	for _, topic := range []string{"orgs/acme/x", "orgs/%2F/x", "orgs/../x", "orgs/*/x", "orgs//x", "orgs/-/x", "orgs/%2D", "orgs/a/b"} {
		for _, v := range []string{"acme", "/", "..", "*", "", "-", "{}", "a/b"} {
			f.Add(topic, v)
		}
	}
	p, err := parsePattern("orgs/{org}/**")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, topic, v string) {
		b, ok := p.bind(map[string]any{"org": v})
		got := ok && b.match(topic)
		own := "orgs/" + contract.Escape(v)
		want := v != "" && len(v) <= freshet.MaxTopicBytes && (topic == own || strings.HasPrefix(topic, own+"/"))
		if got != want {
			t.Fatalf("%q with %q: %v", topic, v, got)
		}
	})
}
