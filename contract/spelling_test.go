package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const tasksProto = `
message Request { string id = 1; string name = 2; repeated string days = 3; int64 number = 4; string word = 5; }
message Answer { message Of { string id = 1; } repeated Of tasks = 1; string day = 2; }
message Task { option (freshet.v1.source) = {table: "tasks" topics: "tasks/{id}" topics: "tasks/-" topics: "due/{day}" topics: "projects/{project}/tasks/{id}"}; }
message Counter { option (freshet.v1.source) = {table: "counters" topics: "counters/{number}" topics: "flags/{flag}" topics: "both/{number}"}; }
message Word { option (freshet.v1.source) = {table: "words" topics: "words/{word}" topics: "both/{id}" topics: "mine/{path=**}/of/{id}"}; }
message Told { option (freshet.v1.source) = {table: "stats" topics: "counters/{day}/of/{id}" topics: "tasks/{any}/stats" told: true}; }
service S {
  rpc Get(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "tasks/{id}"}; }
  rpc Name(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "{name=**}"}; }
  rpc Days(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "words/{word}" topics: "due/{days}"}; }
  rpc All(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "tasks/all"}; }
  rpc Number(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "counters/{number}"}; }
  rpc Own(Request) returns (Request) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "tasks/{principal.task}"}; }
  rpc Shown(Request) returns (Answer) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "tasks/all" response_topics: "tasks/{tasks.id}" response_topics: "due/{day}"}; }
  rpc Put(Request) returns (Request) { option (freshet.v1.writes) = {topics: "tasks/{id}"}; }
}`

// Where a text that is no value of a column's type is asked for, it is refused: a template
// takes no type of which that isn't so.
func TestSpelling_judgesWhatIsTaken(t *testing.T) {
	for name, oid := range takenTypes {
		anyText := oid == oidText || oid == oidVarchar || oid == AnyEnum
		require.Equal(t, !anyText, exampleOf[oid] != "", name)
		require.Equal(t, anyText, isWritten(oid, "no value of this"), name)
		require.True(t, isWritten(oid, exampleOf[oid]), name)
	}
}

func taskService(t testing.TB) *Program {
	p, err := compileText(t, tasksProto)
	require.NoError(t, err)
	return p
}

// bound are the rows of tables that have these types, by table and column.
func bound(t testing.TB, p *Program, types map[string]uint32) (all []*Rows) {
	t.Helper()
	for _, s := range p.Sources() {
		var oids []uint32
		for _, c := range s.Columns() {
			if oid := types[s.Table+"."+c]; oid != 0 {
				oids = append(oids, oid)
			} else {
				oids = append(oids, oidText)
			}
		}
		rows, err := s.Bind(oids)
		require.NoError(t, err)
		all = append(all, rows)
	}
	return all
}

const (
	lower = "01928c7e-0000-7000-8000-00000000000a"
	upper = "01928C7E-0000-7000-8000-00000000000A"
)

func spellingOfTasks(t testing.TB) (*Program, *Spelling) {
	p := taskService(t)
	return p, p.Spelling(bound(t, p, map[string]uint32{
		"tasks.id": oidUUID, "tasks.day": oidDate, "counters.number": oidInt4, "counters.flag": oidBool, "words.id": oidUUID, "words.word": AnyEnum,
	})...)
}

// A topic is refused only where no row of any source can have it.
func TestSpelling_Check(t *testing.T) {
	_, s := spellingOfTasks(t)
	for _, topic := range []string{
		"tasks/" + lower, "due/2026-01-05", "due/0044-03-15%20BC", "counters/7", "flags/true", "projects/any Thing/tasks/" + lower,
		"words/On", "words/007", // an enum, whose label may be any
		"both/7", "both/" + lower, // one of two sources is enough
		"tasks/-", "projects/-/tasks/-", // the wildcard
		"tasks", "nobody/knows", "nobody/" + upper, "", "/", "tasks/" + upper + "/comments", // of no template
		"tasks/" + upper + "/stats", "counters/today/of/007", // told by somebody
		"mine/a/b/of/" + lower, "mine/a/of/b/of/" + lower, "mine/a/of/of/" + lower,
	} {
		require.NoError(t, s.Check(topic), topic)
	}
	for topic, text := range map[string]string{
		"tasks/" + upper:                    `"` + upper + `" isn't how Postgres writes a uuid, and no change would ever be told of it: it writes "` + lower + `"`,
		"tasks/":                            `"" isn't how Postgres writes a uuid, and no change would ever be told of it: one is "01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77"`,
		"tasks/%2D":                         `"-" isn't how Postgres writes a uuid`,
		"due/2026-1-5":                      `"2026-1-5" isn't how Postgres writes a date, and no change would ever be told of it: it writes "2026-01-05"`,
		"due/0044-03-15 BC":                 `"0044-03-15 BC" isn't how`, // nor escaped as a topic is
		"counters/%37":                      `"7" isn't how Postgres writes an integer`,
		"counters/007":                      `"007" isn't how Postgres writes an integer, and no change would ever be told of it: it writes "7"`,
		"counters/%":                        `"%" isn't how Postgres writes an integer, and no change would ever be told of it: one is "42"`,
		"counters/3000000000":               `"3000000000" isn't how Postgres writes an integer`,
		"flags/t":                           `"t" isn't how Postgres writes a boolean, and no change would ever be told of it: it writes "true"`,
		"both/" + upper:                     `isn't how Postgres writes a`,
		"projects/x/tasks/" + upper:         `it writes "` + lower + `"`,
		"mine/a/of/" + upper:                `it writes "` + lower + `"`,
		"mine/a/of/b/of/" + upper:           `it writes "` + lower + `"`,
		"tasks/" + strings.Repeat("x", 500): `…" isn't how Postgres writes a uuid`,
	} {
		err := s.Check(topic)
		require.ErrorContains(t, err, text, topic)
		require.ErrorContains(t, err, "topic ")
	}
}

// What isn't known lets all pass: before anybody has looked, and of a table that was
// found to be another one.
func TestSpelling_unknown(t *testing.T) {
	p := taskService(t)
	require.NoError(t, (*Spelling)(nil).Check("tasks/"+upper))
	require.NoError(t, (*Spelling)(nil).CheckRequest(nil, []string{"tasks/" + upper}))
	require.Nil(t, p.Spelling(), "there is nothing to look for")
	require.Nil(t, p.Spelling(bound(t, p, nil)...), "nor in text")
	some := p.Spelling(bound(t, p, map[string]uint32{"words.id": oidUUID, "counters.number": oidInt4})[:1]...)
	require.Equal(t, "counters", p.Sources()[0].Table)
	require.Error(t, some.Check("counters/007"))
	require.NoError(t, some.Check("both/007"), "nothing is known of the other source")
}

func ask(t testing.TB, m *Method, fields map[string]any) []string {
	t.Helper()
	req := dynamicpb.NewMessage(m.input)
	for name, value := range fields {
		fd := m.input.Fields().ByName(protoreflect.Name(name))
		if list, ok := value.([]string); ok {
			for _, element := range list {
				req.Mutable(fd).List().Append(protoreflect.ValueOfString(element))
			}
			continue
		}
		req.Set(fd, protoreflect.ValueOf(value))
	}
	topics, err := m.Topics(req)
	require.NoError(t, err)
	return topics
}

func TestSpelling_CheckRequest(t *testing.T) {
	p, s := spellingOfTasks(t)
	for _, tt := range []struct {
		method, field string
		request       map[string]any
		text          string // empty: it passes
	}{
		{"Get", "id", map[string]any{"id": lower}, ""},
		{"Get", "id", nil, ""},
		{"Get", "id", map[string]any{"id": upper}, `id: "` + upper + `" isn't how Postgres writes a uuid, and no change would ever be told of it: it writes "` + lower + `"`},
		{"Get", "id", map[string]any{"id": "-"}, `id: "-" isn't how`},
		{"Put", "id", map[string]any{"id": upper}, `id: "` + upper + `" isn't how`},
		{"Name", "name", map[string]any{"name": "projects/P/tasks/" + lower}, ""},
		{"Name", "name", map[string]any{"name": "projects/P/tasks/-"}, ""},
		{"Name", "name", map[string]any{"name": "projects/P/tasks/" + upper}, `name: "` + upper + `" isn't how`},
		{"Name", "name", map[string]any{"name": "nobody/" + upper}, ""},
		{"Days", "days", map[string]any{"word": "any Word", "days": []string{"2026-01-05", "infinity"}}, ""},
		{"Days", "days", map[string]any{"word": "any Word", "days": []string{"2026-01-05", "2026-1-5"}}, `days: "2026-1-5" isn't how`},
		{"All", "", nil, ""}, // a mistake of the contract's, which its caller can't mend
		{"Number", "number", map[string]any{"number": int64(7)}, ""},
		{"Number", "number", map[string]any{"number": int64(3_000_000_000)}, `number: "3000000000" isn't how Postgres writes an integer`},
	} {
		m := p.Method("/test.v1.S/" + tt.method)
		err := s.CheckRequest(m, ask(t, m, tt.request))
		if tt.text == "" {
			require.NoError(t, err, "%v", tt)
			continue
		}
		require.ErrorContains(t, err, tt.text)
		var known *SpellingError
		require.ErrorAs(t, err, &known)
		require.Equal(t, tt.field, known.Field)
	}
}

// A claim stays with the server, as it does where it is no text at all.
func TestSpelling_claim(t *testing.T) {
	p, s := spellingOfTasks(t)
	for value, fits := range map[string]bool{lower: true, upper: false} {
		m, err := p.Method("/test.v1.S/Own").For(map[string]any{"task": value})
		require.NoError(t, err)
		err = s.CheckRequest(m, ask(t, m, nil))
		if fits {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, `the caller's claim "task" isn't how Postgres writes a uuid, and no change would ever be told of it: one is "`+exampleOf[oidUUID]+`"`)
	}
}

// Whoever has made the answer is at fault.
func TestSpelling_CheckAnswer(t *testing.T) {
	p, s := spellingOfTasks(t)
	m := p.Method("/test.v1.S/Shown")
	for _, tt := range []struct {
		topics []string
		text   string // empty: it passes
	}{
		{[]string{"tasks/" + lower, "due/2026-01-05"}, ""},
		{[]string{"tasks/-", "due/infinity"}, ""},
		{[]string{"projects/P/tasks/" + upper}, ""}, // of no template of the answer's
		{[]string{"tasks/" + lower, "tasks/" + upper}, `/test.v1.S/Shown: response topics "tasks/{tasks.id}": tasks.id: "` + upper + `" isn't how Postgres writes a uuid, and no change would ever be told of it: it writes "` + lower + `"`},
		{[]string{"due/2026-1-5"}, `/test.v1.S/Shown: response topics "due/{day}": day: "2026-1-5" isn't how Postgres writes a date, and no change would ever be told of it: it writes "2026-01-05"`},
	} {
		err := s.CheckAnswer(m, tt.topics)
		if tt.text == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, tt.text)
		var wrong *AnswerError
		require.ErrorAs(t, err, &wrong)
		var known *SpellingError
		require.ErrorAs(t, err, &known)
	}
}
