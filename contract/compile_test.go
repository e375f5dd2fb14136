package contract

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

const header = `
syntax = "proto3";
package test.v1;
import "freshet/v1/options.proto";
`

func compileText(t testing.TB, source string) (*Program, error) {
	return Compile(servicesOf(compileProto(t, "test/v1/test.proto", header+source))...)
}

// All problems are told at once, in the order of the source, with full names.
func TestCompile_problems(t *testing.T) {
	_, err := compileText(t, `
message ListTasksRequest { string parent = 1; int32 page_size = 2; string page_token = 3; }
message Task {
  option (freshet.v1.source) = {table: "freshet.tasks" topics: "{project=**}/tasks"};
}
service TaskService {
  rpc ListTasks(ListTasksRequest) returns (Task) {
    option (freshet.v1.reads) = {topics: "{paren=**}/tasks"};
  }
  rpc CreateTask(ListTasksRequest) returns (Task);
}`)
	require.EqualError(t, err, strings.Join([]string{
		`test.v1.Task: source table "freshet.tasks": schema freshet is Freshet's own`,
		`test.v1.TaskService.ListTasks: it declares (freshet.v1.reads) and must say: option idempotency_level = NO_SIDE_EFFECTS`,
		`test.v1.TaskService.ListTasks: reads template "{paren=**}/tasks": no field "paren" in test.v1.ListTasksRequest; fields are parent, page_size, page_token`,
		`test.v1.TaskService.CreateTask: it declares neither (freshet.v1.reads) nor (freshet.v1.writes); a method without a contract belongs to a service of its own`,
	}, "\n"))
	var p *Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "table-name", p.Rule)
	require.Equal(t, "test.v1.Task", p.Element)
}

// A client's method stands alone: that no source of its imports emits its topics
// is the server's to know. All else is wrong there as well.
func TestCompileMethod(t *testing.T) {
	methods := compileProto(t, "test/v1/test.proto", header+`
message GetTaskRequest { string name = 1; }
message Task { string name = 1; }
service TaskService {
  rpc GetTask(GetTaskRequest) returns (Task) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "{name=**}"};
  }
  rpc FindTask(GetTaskRequest) returns (Task) {
    option (freshet.v1.reads) = {topics: "{nam=**}"};
  }
  rpc MoveTask(GetTaskRequest) returns (Task);
}`).Services().Get(0).Methods()
	get, err := CompileMethod(methods.Get(0))
	require.NoError(t, err)
	require.Equal(t, "/test.v1.TaskService/GetTask", get.Procedure)
	require.Equal(t, Read, get.Kind)
	require.Equal(t, []string{"{name=**}"}, get.Templates())
	require.Nil(t, get.Sources())

	_, err = CompileMethod(methods.Get(1))
	require.EqualError(t, err, strings.Join([]string{
		`test.v1.TaskService.FindTask: it declares (freshet.v1.reads) and must say: option idempotency_level = NO_SIDE_EFFECTS`,
		`test.v1.TaskService.FindTask: reads template "{nam=**}": no field "nam" in test.v1.GetTaskRequest; fields are name`,
	}, "\n"))
	_, err = CompileMethod(methods.Get(2))
	require.ErrorContains(t, err, "it declares neither")
}

// With a source template that does not parse, nobody can say which reads it
// would have served.
func TestCompile_noFalseAlarm(t *testing.T) {
	_, err := compileText(t, `
message Task {
  option (freshet.v1.source) = {table: "tasks" topics: "tasks" topics: "tasks/{id"};
}
service TaskService {
  rpc GetTask(Task) returns (Task) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "tasks/7"};
  }
}`)
	require.EqualError(t, err, `test.v1.Task: source template "tasks/{id": at offset 6: { is not closed in its segment`)
}

const tasks = `
message Request { string name = 1; bool done = 2; }
message Task {
  option (freshet.v1.source) = {table: "tasks" topics: "tasks" topics: "tasks/{id}" topics: "done/{done}"};
  message Comment {
    option (freshet.v1.source) = {table: "app.comments" topics: "tasks/{task}/comments"};
  }
}
message Summary {
  option (freshet.v1.source) = {table: "public.tasks" topics: "tasks" topics: "owners/{owner}"};
}
service TaskService {
  rpc GetTask(Request) returns (Task) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "tasks/{name}" uncached: true};
  }
  rpc ListDone(Request) returns (Task) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "done/{done}" topics: "{name=**}/comments"};
  }
}`

// Messages over one table, nested ones too, share a source.
func TestCompile_mergesTables(t *testing.T) {
	p, err := compileText(t, tasks)
	require.NoError(t, err)
	require.Len(t, p.Sources(), 2)
	require.Equal(t, "app.comments", p.Sources()[0].String())
	require.Equal(t, "public.tasks", p.Sources()[1].String())
	s := p.Source("public", "tasks")
	require.Equal(t, []string{"tasks", "tasks/{id}", "done/{done}", "owners/{owner}"}, s.Templates())
	require.Equal(t, []string{"done", "id", "owner"}, s.Columns())

	get, list := p.Method("/test.v1.TaskService/GetTask"), p.Method("/test.v1.TaskService/ListDone")
	require.Equal(t, []*Method{get, list}, p.Methods())
	require.True(t, get.Uncached)
	require.False(t, get.Shared)
	require.Equal(t, []*Source{s}, get.Sources())
	require.Equal(t, p.Sources(), list.Sources())
	require.Equal(t, "reads", get.Kind.String())
	require.Equal(t, "writes", Write.String())
	require.Equal(t, "Kind(0)", Kind(0).String())
}

func TestProgram_hash(t *testing.T) {
	hash := func(source string) string {
		p, err := compileText(t, source)
		require.NoError(t, err)
		return p.Hash()
	}
	base := hash(tasks)
	require.Equal(t, base, hash(strings.Replace(tasks, `topics: "tasks" topics: "tasks/{id}"`, `topics: "tasks/{id}" topics: "tasks"`, 1)), "order")
	require.Equal(t, base, hash(strings.Replace(tasks, `string name = 1;`, `string name = 1; string other = 9;`, 1)), "a field that no template uses")
	for old, changed := range map[string]string{
		`uncached: true`:     `uncached: false`,
		`table: "app.`:       `table: "lib.`,
		`"owners/{owner}"`:   `"owners/{boss}"`,
		`"tasks/{name}"`:     `"tasks/{done}"`,
		`bool done = 2`:      `string done = 2`,
		`rpc GetTask`:        `rpc ReadTask`,
		`service TaskServic`: `service Servic`,
	} {
		require.Contains(t, tasks, old)
		other := hash(strings.Replace(tasks, old, changed, 1))
		require.NotEqual(t, base, other, "%s → %s", old, changed)
	}
}

// A service handed in twice is one service, and several make one contract.
func TestCompile_services(t *testing.T) {
	sd := messagesv1.File_messages_v1_messages_service_proto.Services().Get(0)
	once, err := Compile(sd)
	require.NoError(t, err)
	twice, err := Compile(sd, sd)
	require.NoError(t, err)
	require.Equal(t, once.Hash(), twice.Hash())
	require.Len(t, twice.Methods(), 6)

	fd := compileProto(t, "test/v1/test.proto", header+tasks)
	both, err := Compile(sd, fd.Services().Get(0))
	require.NoError(t, err)
	require.Len(t, both.Methods(), 8)
	require.Len(t, both.Sources(), 3)
	require.NotEqual(t, once.Hash(), both.Hash())

	none, err := Compile()
	require.NoError(t, err)
	require.Empty(t, none.Methods())
	require.Empty(t, none.Sources())
}

// Descriptors may come from anywhere: generated code, a registry that knows
// freshet.v1 as dynamic messages, or one that does not know it at all.
func TestCompile_optionsAnyForm(t *testing.T) {
	want := messages(t).Hash()
	raw, err := proto.Marshal(fileSet(messagesv1.File_messages_v1_messages_service_proto))
	require.NoError(t, err)
	dynamic := new(protoregistry.Types)
	for i := range freshetv1.File_freshet_v1_options_proto.Extensions().Len() {
		xt := dynamicpb.NewExtensionType(freshetv1.File_freshet_v1_options_proto.Extensions().Get(i))
		require.NoError(t, dynamic.RegisterExtension(xt))
	}
	for name, types := range map[string]*protoregistry.Types{
		"linked in": protoregistry.GlobalTypes, "unknown": new(protoregistry.Types), "dynamic": dynamic,
	} {
		set := new(descriptorpb.FileDescriptorSet)
		require.NoError(t, proto.UnmarshalOptions{Resolver: types}.Unmarshal(raw, set))
		files, err := protodesc.NewFiles(set)
		require.NoError(t, err)
		d, err := files.FindDescriptorByName("messages.v1.MessageService")
		require.NoError(t, err)
		p, err := Compile(d.(protoreflect.ServiceDescriptor))
		require.NoError(t, err, name)
		require.Equal(t, want, p.Hash(), name)
	}
}

// A field within an option that this version does not know is refused too.
func TestCompile_unknownOptionField(t *testing.T) {
	set := fileSet(compileProto(t, "test/v1/test.proto", header+tasks))
	file := set.GetFile()[len(set.GetFile())-1]
	raw, err := proto.Marshal(file)
	require.NoError(t, err)
	file.Reset()
	require.NoError(t, proto.Unmarshal(raw, file)) // freshet.v1 linked in: typed options
	method := file.GetService()[0].GetMethod()[0].GetOptions()
	reads := proto.GetExtension(method, freshetv1.E_Reads).(*freshetv1.Reads)
	reads.ProtoReflect().SetUnknown([]byte{9 << 3, 1}) // field 9, a varint

	files, err := protodesc.NewFiles(set)
	require.NoError(t, err)
	d, err := files.FindDescriptorByName("test.v1.TaskService")
	require.NoError(t, err)
	_, err = Compile(d.(protoreflect.ServiceDescriptor))
	require.EqualError(t, err, "test.v1.TaskService.GetTask: its options of freshet.v1 have a field 9 that this version of Freshet does not know")
}

// A Program is used by all requests at once; the race detector watches.
func TestProgram_concurrent(t *testing.T) {
	p := messages(t)
	s := p.Source("public", "messages")
	rows, err := s.Bind([]uint32{oidText, oidUUID})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				topics, err := p.Method("/messages.v1.MessageService/ListMessages").
					Topics(&messagesv1.ListMessagesRequest{Parent: "conversations/7"})
				if err != nil || len(topics) != 1 {
					t.Error(topics, err)
				}
				if topics, _ := rows.AppendTopics(nil, row("7", "1")); len(topics) != 4 {
					t.Error(topics)
				}
			}
		})
	}
	wg.Wait()
}

// More topics than a request may have are refused, whether one template has
// them or all together.
func TestMethod_tooManyTopics(t *testing.T) {
	m := methodOf(t, "a/{names}", "b/{names}")
	req := dynamicpb.NewMessage(m.input)
	names := req.Mutable(m.input.Fields().ByName("names")).List()
	for i := range MaxTopics / 2 {
		names.Append(protoreflect.ValueOfString(string(rune('Ā' + i))))
	}
	topics, err := m.Topics(req)
	require.NoError(t, err)
	require.Len(t, topics, MaxTopics)

	names.Append(protoreflect.ValueOfString("one more"))
	_, err = m.Topics(req)
	require.EqualError(t, err, `/freshet.vectors.v1.Test/Test: topics "b/{names}": more than 1000 topics`)
}
