package contract

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

const broken = header + `
message Task {
  option (freshet.v1.source) = {table: "tasks" topics: "tasks"};
}
service TaskService {
  rpc ListTasks(Task) returns (Task) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "task"};
  }
}
// Declares nothing: perhaps it is not Freshet's at all.
service OtherService {
  rpc Do(Task) returns (Task);
}
`

func TestLint_clean(t *testing.T) {
	found, err := Lint(imageOf(t, messagesv1.File_messages_v1_messages_service_proto))
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestLint_place(t *testing.T) {
	found, err := Lint(imageOf(t, compileProto(t, "test/v1/test.proto", broken)))
	require.NoError(t, err)
	require.Equal(t, []Finding{{
		Rule:    "read-emitted",
		Element: "test.v1.TaskService.ListTasks",
		Text:    `reads template "task": no source emits such a topic; sources emit tasks`,
		File:    "test/v1/test.proto", Line: 12, Column: 34,
	}}, found)
	require.Equal(t, `test/v1/test.proto:12:34: test.v1.TaskService.ListTasks: reads template "task": no source emits such a topic; sources emit tasks (read-emitted)`, found[0].String())
}

// protoc knows the place of an option, not of its elements; an image may know
// nothing at all.
func TestLint_coarsePlaces(t *testing.T) {
	set := fileSet(compileProto(t, "test/v1/test.proto", broken))
	file := set.GetFile()[len(set.GetFile())-1]
	var coarse []*descriptorpb.SourceCodeInfo_Location
	for _, l := range file.GetSourceCodeInfo().GetLocation() {
		if len(l.GetPath()) <= 6 { // file, service, method, option
			coarse = append(coarse, l)
		}
	}
	file.SourceCodeInfo.Location = coarse
	lint := func() Finding {
		b, err := proto.Marshal(set)
		require.NoError(t, err)
		found, err := Lint(b)
		require.NoError(t, err)
		require.Len(t, found, 1)
		return found[0]
	}
	require.Equal(t, 12, lint().Line)
	file.SourceCodeInfo = nil
	require.Zero(t, lint().Line)
	require.Regexp(t, `^test/v1/test.proto: test.v1.TaskService.ListTasks: `, lint().String())
}

// Files that buf marks as imports are somebody else's: their sources count,
// their services don't.
func TestLint_imports(t *testing.T) {
	set := fileSet(compileProto(t, "test/v1/test.proto", broken))
	file := set.GetFile()[len(set.GetFile())-1]
	for _, c := range []struct {
		extension []byte
		want      int
	}{
		{[]byte{1 << 3, 1}, 0},
		{[]byte{1 << 3, 0}, 1},
		{[]byte{2 << 3, 1}, 1},
		{nil, 1},
	} {
		unknown := protowire.AppendTag(nil, 8041, protowire.VarintType)
		unknown = protowire.AppendVarint(unknown, 7)
		unknown = protowire.AppendTag(unknown, 8042, protowire.BytesType)
		unknown = protowire.AppendBytes(unknown, c.extension)
		file.ProtoReflect().SetUnknown(unknown)
		b, err := proto.Marshal(set)
		require.NoError(t, err)
		found, err := Lint(b)
		require.NoError(t, err)
		require.Len(t, found, c.want)
	}
}

// An image as buf itself writes it: testdata/image.binpb is `buf build` of
// freshet/v1/options.proto and of this test's rules/field-exists/bad.proto.
func TestLint_bufImage(t *testing.T) {
	b, err := os.ReadFile("testdata/image.binpb")
	require.NoError(t, err)
	found, err := Lint(b)
	require.NoError(t, err)
	source, err := os.ReadFile("testdata/rules/field-exists/bad.proto")
	require.NoError(t, err)
	require.Equal(t, wants(string(source)), ruleFindings(found, "field-exists"))
}

func TestLint_badImages(t *testing.T) {
	_, err := Lint(nil)
	require.EqualError(t, err, "contract: read image: it holds no files")
	_, err = Lint([]byte("no image"))
	require.ErrorContains(t, err, "contract: read image: ")
	set := fileSet(compileProto(t, "test/v1/test.proto", broken))
	b, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: set.GetFile()[len(set.GetFile())-1:]})
	require.NoError(t, err)
	_, err = Lint(b)
	require.ErrorContains(t, err, "it must hold all imports")
}
