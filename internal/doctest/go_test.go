// Package doctest builds the code that the documents show, and runs it: what a
// reader copies works. (The TypeScript is checked by web/scripts/docs.mjs.)
package doctest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// readmeImports stand before the front page's Go, which leaves them out.
const readmeImports = `package readme

import (
	"context"
	"log"
	"net/http"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/server"

	tasksv1 "example.com/tasks/gen/tasks/v1"
	"example.com/tasks/gen/tasks/v1/tasksv1connect"
)

`

// tasksModule writes the module of docs/library.md, and the front page's Go as
// one of its packages.
func tasksModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, b := range blocksOf(t, "docs/library.md") {
		if b.file != "" {
			write(t, dir, b.file, b.text)
		}
	}
	for _, b := range blocksOf(t, "README.md") {
		if b.language == "go" {
			write(t, dir, b.file, readmeImports+b.text)
		}
	}
	require.FileExists(t, filepath.Join(dir, "readme/readme.go"))

	// Its dependencies are Freshet's own, at the same versions: nothing is downloaded.
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	write(t, dir, "go.mod", strings.Replace(string(mod), "module github.com/freshet-dev/freshet\n", "module example.com/tasks\n", 1)+
		"\nrequire github.com/freshet-dev/freshet v0.0.0\nreplace github.com/freshet-dev/freshet => "+here+"\n")
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	write(t, dir, "go.sum", string(sum))
	options, err := os.ReadFile(filepath.Join(root, "proto/freshet/v1/options.proto"))
	require.NoError(t, err)
	write(t, dir, "third_party/freshet/v1/options.proto", string(options))

	generate(t, dir)
	return dir
}

// generate does what `buf generate` does by the buf.gen.yaml of the document, by
// the plugins that this repository pins.
func generate(t *testing.T, dir string) {
	t.Helper()
	const name = "tasks/v1/tasks.proto"
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		ImportPaths: []string{filepath.Join(dir, "proto"), filepath.Join(dir, "third_party")},
	})}
	files, err := compiler.Compile(t.Context(), name)
	require.NoError(t, err)
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{name}, Parameter: new("module=example.com/tasks/gen")}
	options := files[0].FindImportByPath("freshet/v1/options.proto")
	for _, fd := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, options, files[0]} {
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(fd))
	}
	in, err := proto.Marshal(request)
	require.NoError(t, err)
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-connect-go"} {
		var out, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", plugin)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = root, bytes.NewReader(in), &out, &stderr
		require.NoError(t, cmd.Run(), "%s: %s", plugin, &stderr)
		response := new(pluginpb.CodeGeneratorResponse)
		require.NoError(t, proto.Unmarshal(out.Bytes(), response))
		require.Empty(t, response.GetError())
		require.NotEmpty(t, response.GetFile())
		for _, f := range response.GetFile() {
			write(t, dir, filepath.Join("gen", f.GetName()), f.GetContent())
		}
	}
}

// golang runs the go command in the module.
func golang(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestLibrary_builds(t *testing.T) {
	golang(t, tasksModule(t), "vet", "./...")
}
