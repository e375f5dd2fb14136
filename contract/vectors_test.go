package contract

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/claims"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.binpb from vectors.proto")

// vectors is testdata/vectors.json; its README says what each list means.
type vectors struct {
	About    string
	Escapes  []struct{ Value, Segment string }
	Requests []struct {
		Template string
		Request  json.RawMessage
		Topics   []string
		Error    bool
	}
	Responses []struct {
		Templates         []string
		ResponseTemplates []string `json:"response_templates"`
		Request, Response json.RawMessage
		Topics            []string
		Error             bool
	}
	Principals []struct {
		Templates                 []string
		ResponseTemplates         []string `json:"response_templates"`
		Claims, Request, Response json.RawMessage
		Caller                    string
		Topics                    []string
		Error                     bool
	}
	Rows []struct {
		Template string
		Columns  map[string]struct {
			Type string
			Text *string
		}
		Topics []string
		Floors []freshet.Pattern
	}
	Types   []string
	Columns []struct {
		Type, Value, Template string
		Request               json.RawMessage
		Topics                []string
	}
	Floors []struct {
		Template         string
		Pattern          freshet.Pattern
		Matches, Rejects []string
	}
	Malformed []struct {
		Template, Reason string
		Offset           int
	}
}

func readVectors(t testing.TB) *vectors {
	b, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	v := new(vectors)
	require.NoError(t, d.Decode(v))
	return v
}

func TestVectors_descriptor(t *testing.T) {
	source, err := os.ReadFile("testdata/vectors.proto")
	require.NoError(t, err)
	set := fileSet(compileProto(t, "vectors.proto", string(source)))
	for _, f := range set.GetFile() {
		f.SourceCodeInfo = nil
	}
	if *update {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("testdata/vectors.binpb", b, 0o644))
	}
	b, err := os.ReadFile("testdata/vectors.binpb")
	require.NoError(t, err)
	committed := new(descriptorpb.FileDescriptorSet)
	require.NoError(t, proto.Unmarshal(b, committed))
	require.True(t, proto.Equal(set, committed), "vectors.binpb is not vectors.proto: run with -update")
}

func TestVectors_escapes(t *testing.T) {
	for _, c := range readVectors(t).Escapes {
		require.Equal(t, c.Segment, string(appendEscaped(nil, c.Value)), "%q", c.Value)
		value, ok := unescape(c.Segment)
		require.True(t, ok)
		require.Equal(t, c.Value, value)
	}
}

// methodOf compiles templates over the vectors' requests, as a client does.
func methodOf(t testing.TB, templates ...string) *Method {
	return answerOf(t, templates, nil)
}

// answerOf is methodOf with templates over the response.
func answerOf(t testing.TB, templates, response []string) *Method {
	request, err := os.ReadFile("testdata/vectors.proto")
	require.NoError(t, err)
	var topics strings.Builder
	for _, text := range templates {
		fmt.Fprintf(&topics, " topics: %q", text)
	}
	for _, text := range response {
		fmt.Fprintf(&topics, " response_topics: %q", text)
	}
	fd := compileProto(t, "test.proto", fmt.Sprintf(`%s
import "freshet/v1/options.proto";
service Test {
  rpc Test(Request) returns (Request) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {%s};
  }
}`, request, topics.String()))
	m, err := CompileMethod(fd.Services().Get(0).Methods().Get(0))
	require.NoError(t, err)
	return m
}

func TestVectors_requests(t *testing.T) {
	for _, c := range readVectors(t).Requests {
		m := methodOf(t, c.Template)
		req := dynamicpb.NewMessage(m.input)
		require.NoError(t, protojson.Unmarshal(c.Request, req))
		got, err := m.Topics(req)
		if c.Error {
			var requestError *RequestError
			require.ErrorAs(t, err, &requestError, "%s %s", c.Template, c.Request)
			continue
		}
		require.NoError(t, err, "%s %s", c.Template, c.Request)
		require.Equal(t, c.Topics, got, "%s %s", c.Template, c.Request)
	}
}

func TestVectors_responses(t *testing.T) {
	cases := readVectors(t).Responses
	require.Greater(t, len(cases), 20)
	for i, c := range cases {
		templates := c.Templates
		if len(templates) == 0 {
			templates = []string{"{nickname}"} // which isn't set: a method has a topic
		}
		m := answerOf(t, templates, c.ResponseTemplates)
		req, res := dynamicpb.NewMessage(m.input), dynamicpb.NewMessage(m.output)
		require.NoError(t, protojson.Unmarshal(c.Request, req))
		require.NoError(t, protojson.Unmarshal(c.Response, res))
		got, err := m.AnswerTopics(req, res)
		if c.Error {
			var answerError *AnswerError
			require.ErrorAs(t, err, &answerError, "case %d", i)
			continue
		}
		require.NoError(t, err, "case %d", i)
		require.Equal(t, c.Topics, append([]string{}, got...), "case %d: %v", i, c.ResponseTemplates)
	}
}

func TestVectors_principals(t *testing.T) {
	cases := readVectors(t).Principals
	require.Greater(t, len(cases), 20)
	for i, c := range cases {
		m := answerOf(t, c.Templates, c.ResponseTemplates)
		of, err := claims.Parse(c.Claims)
		require.NoError(t, err)
		known, err := m.For(of)
		if c.Error {
			var claimError *ClaimError
			require.ErrorAs(t, err, &claimError, "case %d", i)
			continue
		}
		require.NoError(t, err, "case %d", i)
		require.Equal(t, c.Caller, known.Caller(), "case %d", i)
		told, err := m.ForCaller(c.Caller)
		require.NoError(t, err, "case %d", i)
		req, res := dynamicpb.NewMessage(m.input), dynamicpb.NewMessage(m.output)
		require.NoError(t, protojson.Unmarshal([]byte(cmp.Or(string(c.Request), "{}")), req))
		require.NoError(t, protojson.Unmarshal([]byte(cmp.Or(string(c.Response), "{}")), res))
		for _, m := range []*Method{known, told} {
			got, err := m.AnswerTopics(req, res)
			require.NoError(t, err, "case %d", i)
			require.Equal(t, c.Topics, append([]string{}, got...), "case %d", i)
		}
	}
}

// sourceOf compiles one template over columns.
func sourceOf(t testing.TB, text string) *Source {
	parsed, err := parseTemplate(text)
	require.NoError(t, err)
	s := &Source{Schema: "public", Table: "test", templates: []*template{parsed}}
	s.seal()
	return s
}

func TestVectors_rows(t *testing.T) {
	oids := map[string]uint32{
		"bool": oidBool, "int2": oidInt2, "int4": oidInt4, "int8": oidInt8,
		"text": oidText, "varchar": oidVarchar, "uuid": oidUUID, "date": oidDate, "anyenum": AnyEnum,
	}
	for _, c := range readVectors(t).Rows {
		s := sourceOf(t, c.Template)
		require.Len(t, s.Columns(), len(c.Columns))
		var types []uint32
		for _, name := range s.Columns() {
			require.Contains(t, oids, c.Columns[name].Type)
			types = append(types, oids[c.Columns[name].Type])
		}
		rows, err := s.Bind(types)
		require.NoError(t, err)
		topics, floors := rows.AppendTopics([]string{}, func(i int) ([]byte, bool) {
			text := c.Columns[s.Columns()[i]].Text
			if text == nil {
				return nil, false
			}
			return []byte(*text), true
		})
		require.Equal(t, c.Topics, topics, "%s %v", c.Template, c.Columns)
		require.Equal(t, c.Floors, append([]freshet.Pattern{}, floors...), "%s %v", c.Template, c.Columns)
	}
}

// The same columns on a real Postgres: TestColumns of store/wal.
func TestVectors_columns(t *testing.T) {
	for _, c := range readVectors(t).Columns {
		m := methodOf(t, c.Template)
		req := dynamicpb.NewMessage(m.input)
		require.NoError(t, protojson.Unmarshal(c.Request, req))
		got, err := m.Topics(req)
		require.NoError(t, err)
		require.Equal(t, c.Topics, got, "%s %s", c.Type, c.Value)
	}
}

func TestVectors_floors(t *testing.T) {
	for _, c := range readVectors(t).Floors {
		s := sourceOf(t, c.Template)
		require.Equal(t, []freshet.Pattern{c.Pattern}, s.Floors())
		for _, topic := range c.Matches {
			require.True(t, c.Pattern.Match(topic), "%q %q", c.Pattern, topic)
		}
		for _, topic := range c.Rejects {
			require.False(t, c.Pattern.Match(topic), "%q %q", c.Pattern, topic)
		}
	}
}

func TestVectors_malformed(t *testing.T) {
	for _, c := range readVectors(t).Malformed {
		_, err := parseTemplate(c.Template)
		var syntax *SyntaxError
		require.True(t, errors.As(err, &syntax), "%q", c.Template)
		require.Equal(t, SyntaxError{Template: c.Template, Offset: c.Offset, Reason: c.Reason}, *syntax)
	}
}
