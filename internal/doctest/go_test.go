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

	"github.com/freshet-dev/freshet/server"

	"example.com/tasks/gen/tasks/v1/tasksv1connect"
)

`

// tasksModule makes the module of docs/library.md, with the front page's Go as one
// of its packages.
func tasksModule(t *testing.T) string {
	t.Helper()
	files := map[string]string{}
	for _, b := range blocksOf(t, "docs/library.md") {
		if b.file != "" {
			files[b.file] = b.text
		}
	}
	for _, b := range blocksOf(t, "README.md") {
		if b.language == "go" {
			files[b.file] = readmeImports + b.text
		}
	}
	require.Contains(t, files, "readme/readme.go")
	return moduleOf(t, files, true)
}

// moduleOf makes the module example.com/tasks of files: fresh, or one that has
// nothing of Freshet.
func moduleOf(t *testing.T, files map[string]string, fresh bool) string {
	t.Helper()
	around := t.TempDir()
	dir := filepath.Join(around, "tasks")
	for file, text := range files {
		write(t, dir, file, text)
	}
	// Its dependencies are Freshet's own, at the same versions: nothing is downloaded.
	write(t, dir, "go.mod", strings.Replace(read(t, "go.mod"), "module github.com/freshet-dev/freshet\n", "module example.com/tasks\n", 1))
	write(t, dir, "go.sum", read(t, "go.sum"))
	if fresh {
		freshen(t, around, dir)
	}
	generate(t, dir)
	return dir
}

// freshen has a module require Freshet, and have its options, by the commands of the
// document, which find the clone that they want: this one.
func freshen(t *testing.T, around, dir string) {
	t.Helper()
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(here, filepath.Join(around, "freshet")))
	commands := 0
	for _, b := range blocksOf(t, adoptConnect) {
		if b.language == "sh" && b.word == "module" {
			commands++
			run(t, dir, "sh", "-euc", b.text)
			for line := range strings.Lines(b.text) {
				require.True(t, strings.Contains(read(t, "docs/library.md"), line), "docs/library.md has another command than %q", line)
			}
		}
	}
	require.Equal(t, 2, commands)
	copied, err := os.ReadFile(filepath.Join(dir, "third_party/freshet/v1/options.proto"))
	require.NoError(t, err)
	require.Equal(t, read(t, "proto/freshet/v1/options.proto"), string(copied))
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
	all := []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto}
	if options := files[0].FindImportByPath("freshet/v1/options.proto"); options != nil {
		all = append(all, options)
	}
	for _, fd := range append(all, files[0]) {
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
	run(t, dir, "go", args...)
}

// run runs a program in the module. What it has of the go command's downloads nothing.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, args, out)
}

func TestLibrary_builds(t *testing.T) {
	golang(t, tasksModule(t), "vet", "./...")
}
