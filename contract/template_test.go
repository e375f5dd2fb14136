package contract

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet"
)

func TestTemplate_string(t *testing.T) {
	for _, text := range []string{"messages", "c/-/m", "c/{c}/m/{id}", "{parent=**}/messages", "{a.b.c}", "{a}/{a}/{b=**}", "a b/%20/größe"} {
		parsed, err := parseTemplate(text)
		require.NoError(t, err)
		require.Equal(t, text, parsed.String())
	}
}

func TestTemplate_invalidUTF8(t *testing.T) {
	for text, offset := range map[string]int{"\xff": 0, "a\xc3": 1, "a/b\xe2\x82": 3, "ö\xf0\x9f\x99": 2} {
		_, err := parseTemplate(text)
		require.Equal(t, &SyntaxError{Template: text, Offset: offset, Reason: "it is not valid UTF-8"}, err)
	}
	// The replacement character itself is a character like any other.
	_, err := parseTemplate("a\uFFFDb")
	require.NoError(t, err)
}

func TestSyntaxError_text(t *testing.T) {
	_, err := parseTemplate("a//b")
	require.EqualError(t, err, `template "a//b": at offset 2: an empty segment`)
}

func FuzzTemplate(f *testing.F) {
	v := readVectors(f)
	for _, c := range v.Malformed {
		f.Add(c.Template, "7")
	}
	for _, c := range v.Requests {
		f.Add(c.Template, "x/-")
	}
	for _, c := range v.Escapes {
		f.Add("a/{x}/{y=**}", c.Value)
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			var syntax *SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.LessOrEqual(t, syntax.Offset, len(text))
			require.NotEmpty(t, syntax.Reason)
			return
		}
		require.Equal(t, text, parsed.String())
		again, err := parseTemplate(parsed.String())
		require.NoError(t, err)
		require.Equal(t, parsed, again)

		// Whatever a template emits, its floor matches and its own language has.
		values := make([]string, len(parsed.fields))
		for i := range values {
			values[i] = value
		}
		parsed.bind(func(field string) int { return indexOf(parsed.fields, field) })
		b, ok := appendTopic(nil, parsed, values)
		require.Equal(t, value != "" || len(values) == 0, ok)
		if !ok {
			return
		}
		topic := string(b)
		require.True(t, parsed.floor().Match(topic), "%q emits %q, its floor is %q", text, topic, parsed.floor())
		err = parsed.check(topic)
		require.Equal(t, freshet.CheckTopic(topic) == nil && !slices.Contains(strings.Split(topic, "/"), ""), err == nil, "%q emits %q", text, topic)
		if err == nil {
			require.True(t, overlap(parsed.tokens(nil), literally(topic)), "%q emits %q", text, topic)
		}
		fromRow, _ := appendTopic(nil, parsed, toBytes(values))
		require.Equal(t, topic, string(fromRow))
	})
}

// literally is the template of one topic, which may hold what templates don't.
func literally(topic string) (list []token) {
	for part := range strings.SplitSeq(topic, "/") {
		list = append(list, token{segment: segment{literal: part}})
	}
	return list
}

func indexOf(list []string, s string) int {
	for i, e := range list {
		if e == s {
			return i
		}
	}
	return -1
}

func toBytes(values []string) (list [][]byte) {
	for _, v := range values {
		list = append(list, []byte(v))
	}
	return list
}

// A read of a path made of raw ids follows what a source tells of a row with these
// ids, whatever they are, and what one tells that has the path in a column. Ids are
// those of AIP-122: not empty, without a slash, and other than the wildcard. No two
// paths share a topic.
func FuzzPath(f *testing.F) {
	for _, c := range readVectors(f).Escapes {
		f.Add(c.Value, "7")
		f.Add("-", c.Value)
	}
	f.Add("a//", "/")
	read := methodOf(f, "{name=**}/t")
	ask := func(name string) ([]string, error) {
		req := dynamicpb.NewMessage(read.input)
		req.Set(read.input.Fields().ByName("name"), protoreflect.ValueOfString(name))
		return read.Topics(req)
	}
	told := func(t *testing.T, template string, values ...string) (topics []string, floors []freshet.Pattern) {
		rows, err := sourceOf(t, template).Bind(slices.Repeat([]uint32{oidText}, len(values)))
		require.NoError(t, err)
		return rows.AppendTopics(nil, row(values...))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		path := "c/" + a + "/" + b
		asked, err := ask(path)
		topics, floors := told(t, "{x=**}/t", path)
		require.Equal(t, err == nil, floors == nil)
		if err != nil {
			require.ErrorAs(t, err, new(*RequestError))
			return
		}
		require.Equal(t, topics, asked)
		if other, err := ask("c/" + b + "/" + a); err == nil {
			require.Equal(t, a == b || a+"/"+b == b+"/"+a, slices.Equal(asked, other))
		}
		if !strings.Contains(a+b, "/") && a != "-" && b != "-" && a != "NULL" && b != "NULL" {
			topics, _ = told(t, "c/{x}/{y}/t", a, b)
			require.Equal(t, topics, asked)
		}
	})
}

// Two values never share a segment: appendEscaped has an inverse.
func FuzzEscape(f *testing.F) {
	for _, c := range readVectors(f).Escapes {
		f.Add(c.Value, c.Segment)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		escaped := string(appendEscaped(nil, a))
		require.Equal(t, escaped, string(appendEscaped(nil, []byte(a))))
		value, ok := unescape(escaped)
		require.True(t, ok)
		require.Equal(t, a, value)
		require.Equal(t, a == b, escaped == string(appendEscaped(nil, b)))
		require.NotEqual(t, "-", escaped)
		require.NotContains(t, escaped, "/")
		if a == "" {
			return
		}
		if len(escaped) <= freshet.MaxTopicBytes {
			require.NoError(t, freshet.CheckTopic(escaped))
		}
		require.True(t, kindText.spells(escaped))
		// What is no value's segment is not taken for one.
		if v, ok := unescape(b); !ok || string(appendEscaped(nil, v)) != b {
			require.False(t, kindText.spells(b))
		}
	})
}
