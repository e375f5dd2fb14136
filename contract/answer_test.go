package contract

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A read depends on the sources of its answer's topics as on those of its request's:
// that is what the audit, row security and quarantine go by.
func TestCompile_sourcesOfTheAnswer(t *testing.T) {
	source, err := os.ReadFile("testdata/rules/response-field/good.proto")
	require.NoError(t, err)
	p, err := Compile(servicesOf(compileProto(t, "good.proto", string(source)))...)
	require.NoError(t, err)
	m := p.Methods()[0]
	require.True(t, m.FromAnswer())
	require.Equal(t, []string{"tasks/{tasks.id}/comments"}, m.ResponseTemplates())
	var tables []string
	for _, s := range m.Sources() {
		tables = append(tables, s.String())
	}
	require.Equal(t, []string{"public.boards", "public.comments", "public.tasks"}, tables)
}

// An error has no elements: it depends on what its request names. And what is of
// another type says nothing.
func TestAnswerTopics_error(t *testing.T) {
	m := answerOf(t, []string{"a/{name}"}, []string{"b/{names}"})
	req := dynamicpb.NewMessage(m.input)
	req.Set(m.input.Fields().ByName("name"), protoreflect.ValueOfString("x"))
	topics, err := m.AnswerTopics(req, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a/x"}, topics)
	_, err = m.AnswerTopics(req, dynamicpb.NewMessage(m.input.Fields().ByName("child").Message()))
	require.ErrorContains(t, err, "Test/Test answers with a")
}

// The request leaves room for the wildcards of the answer.
func TestTopics_roomForTheAnswer(t *testing.T) {
	m := answerOf(t, []string{"a/{names}"}, []string{"b/{numbers}", "c/{numbers}"})
	req := dynamicpb.NewMessage(m.input)
	names := req.Mutable(m.input.Fields().ByName("names")).List()
	for i := range MaxTopics - 2 {
		names.Append(protoreflect.ValueOfString(string(rune('a' + i))))
	}
	res := dynamicpb.NewMessage(m.output)
	numbers := res.Mutable(m.output.Fields().ByName("numbers")).List()
	for i := range 2 {
		numbers.Append(protoreflect.ValueOfInt64(int64(i)))
	}
	topics, err := m.AnswerTopics(req, res)
	require.NoError(t, err)
	require.Equal(t, []string{"b/-", "c/-"}, topics[MaxTopics-2:])
	names.Append(protoreflect.ValueOfString("one too many"))
	_, err = m.Topics(req)
	var requestError *RequestError
	require.ErrorAs(t, err, &requestError)
}
