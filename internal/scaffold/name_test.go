package scaffold

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func TestName(t *testing.T) {
	for text, want := range map[string]string{
		"tasks": "tasks", "Shop": "shop", "my-shop": "my_shop", "my shop.v2": "my_shop_v2", "2do": "do", "42-shops_": "shops",
	} {
		name, err := Name(text)
		require.NoError(t, err)
		require.Equal(t, want, name)
	}
	for text, want := range map[string]string{
		"": "no letter from a to z", "42": "no letter from a to z", "…": "no letter from a to z",
		"données": `it has 'é'`, "donne\u0301es": "it has '\u0301'", "日本": `it has '日'`, "shop٣": `it has '٣'`,
		"freshet": "those of google and buf", "Google": "the protos of google.… are somebody else's, as are those of freshet and buf", "b-u-f": "buf.…",
	} {
		_, err := Name(text)
		require.ErrorContains(t, err, want, text)
	}
}

// A page without an icon has the browser ask for /favicon.ico, which isn't there.
func TestWrite_icon(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, modulePath, "tasks"))
	require.Contains(t, read(t, filepath.Join(dir, "web/index.html")), `<link rel="icon" href="data:image/svg+xml,`)
}

// Under the name that it has here a service is written as it is here, to the byte.
func TestWrite_sameName(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, modulePath, "tasks"))
	for _, file := range []string{"main.go", "buf.gen.yaml", "gen/tasks/v1/tasks.pb.go", "gen/tasks/v1/tasksv1connect/tasks.connect.go", "web/gen/tasks/v1/tasks_pb.ts", "proto/tasks/v1/tasks.proto"} {
		require.Equal(t, read(t, filepath.Join("service", file)), read(t, filepath.Join(dir, file)), file)
	}
}

// Under another name its code is what the generators make of its proto.
func TestWrite_anotherName(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, "example.org/things", "my_shop"))
	require.Contains(t, read(t, filepath.Join(dir, "main.go")), "Slot:         \"my_shop\", // of all")
	require.Contains(t, read(t, filepath.Join(dir, "main.go")), "Publication:  \"my_shop\",")
	require.Contains(t, read(t, filepath.Join(dir, "web/app.tsx")), `"./gen/myshop/v1/tasks_pb.js"`)

	const name, source = "myshop/v1/tasks.proto", "example.org/things/gen/myshop/v1;myshopv1"
	require.Contains(t, read(t, filepath.Join(dir, "buf.gen.yaml")), "M"+name+"="+source)
	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard,
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Join(dir, "proto"), "../../proto"}}),
	}
	files, err := compiler.Compile(t.Context(), name)
	require.NoError(t, err)
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{name}, Parameter: proto.String("module=example.org/things/gen,M" + name + "=" + source), ProtoFile: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto),
		protodesc.ToFileDescriptorProto(files[0].FindImportByPath("freshet/v1/options.proto")),
		protodesc.ToFileDescriptorProto(files[0]),
	}}
	in, err := proto.Marshal(request)
	require.NoError(t, err)
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-connect-go"} {
		var out, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", plugin)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "../..", bytes.NewReader(in), &out, &stderr
		require.NoError(t, cmd.Run(), "%s: %s", plugin, &stderr)
		response := new(pluginpb.CodeGeneratorResponse)
		require.NoError(t, proto.Unmarshal(out.Bytes(), response))
		require.Len(t, response.GetFile(), 1, response.GetError())
		require.Equal(t, response.GetFile()[0].GetContent(), read(t, filepath.Join(dir, "gen", response.GetFile()[0].GetName())))
	}

	// TypeScript's holds the same descriptor, without what can be told from the rest.
	page := read(t, filepath.Join(dir, "web/gen/myshop/v1/tasks_pb.ts"))
	require.Contains(t, page, `"myshop.v1.Task"`)
	m := tsDescriptor.FindStringSubmatch(page)
	require.NotNil(t, m)
	raw, err := base64.RawStdEncoding.DecodeString(m[1])
	require.NoError(t, err)
	got, want := new(descriptorpb.FileDescriptorProto), protodesc.ToFileDescriptorProto(files[0])
	require.NoError(t, proto.Unmarshal(raw, got))
	for _, fd := range []*descriptorpb.FileDescriptorProto{got, want} {
		fd.SourceCodeInfo, fd.Dependency = nil, nil
		for _, message := range fd.GetMessageType() {
			message.Options = nil // what it compiles to is another type of the same bytes
			for _, field := range message.GetField() {
				field.JsonName = nil
			}
		}
		for _, method := range fd.GetService()[0].GetMethod() {
			method.Options = nil
		}
	}
	require.True(t, proto.Equal(want, got), "want %v, got %v", want, got)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}
