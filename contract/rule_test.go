package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// compileProto compiles one file as buf does: with the same compiler.
func compileProto(t testing.TB, name, source string) protoreflect.FileDescriptor {
	c := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard | protocompile.SourceInfoExtraOptionLocations,
		Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
			protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
				switch path {
				case "freshet/v1/options.proto":
					return protocompile.SearchResult{Desc: freshetv1.File_freshet_v1_options_proto}, nil
				case "buf/validate/validate.proto":
					return protocompile.SearchResult{Desc: validate.File_buf_validate_validate_proto}, nil
				default:
					return protocompile.SearchResult{}, os.ErrNotExist
				}
			}),
			&protocompile.SourceResolver{Accessor: func(path string) (io.ReadCloser, error) {
				if path != name {
					return nil, os.ErrNotExist
				}
				return io.NopCloser(strings.NewReader(source)), nil
			}},
		}),
	}
	files, err := c.Compile(context.Background(), name)
	require.NoError(t, err)
	return files[0]
}

// imageOf serializes a file and all its imports.
func imageOf(t testing.TB, fd protoreflect.FileDescriptor) []byte {
	b, err := proto.Marshal(fileSet(fd))
	require.NoError(t, err)
	return b
}

func fileSet(fd protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set, seen := new(descriptorpb.FileDescriptorSet), make(map[string]bool)
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	add(fd)
	return set
}

func servicesOf(fd protoreflect.FileDescriptor) (list []protoreflect.ServiceDescriptor) {
	for i := range fd.Services().Len() {
		list = append(list, fd.Services().Get(i))
	}
	return list
}

// wants reads the comments "// want: text" of a file, as "line: text".
func wants(source string) (list []string) {
	for i, line := range strings.Split(source, "\n") {
		if _, text, ok := strings.Cut(line, "// want: "); ok {
			list = append(list, fmt.Sprintf("%d: %s", i+1, text))
		}
	}
	return list
}

// ruleFindings lists the findings of one rule, in the form of wants.
func ruleFindings(found []Finding, rule string) (list []string) {
	for _, f := range found {
		if f.Rule == rule {
			list = append(list, fmt.Sprintf("%d: %s: %s", f.Line, f.Element, f.Text))
		}
	}
	return list
}

// Each rule has good examples, with which nothing at all is wrong, and bad
// ones, which break that rule and say where. (Only a rule's own findings count
// there: what is wrong in one way is often wrong in another.)
func TestRules(t *testing.T) {
	dirs, err := os.ReadDir("testdata/rules")
	require.NoError(t, err)
	require.Len(t, dirs, len(rules), "a folder for each rule")
	for _, r := range rules {
		for _, want := range []string{"good*.proto", "bad*.proto"} {
			files, err := filepath.Glob(filepath.Join("testdata/rules", r.name, want))
			require.NoError(t, err)
			require.NotEmptyf(t, files, "%s: no %s", r.name, want)
			for _, file := range files {
				t.Run(strings.TrimPrefix(file, "testdata/rules/"), func(t *testing.T) { testRule(t, r, file) })
			}
		}
	}
}

func testRule(t *testing.T, r rule, file string) {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	source := string(b)
	fd := compileProto(t, file, source)

	found, err := Lint(imageOf(t, fd))
	require.NoError(t, err)
	got := ruleFindings(found, r.name)
	require.Equal(t, wants(source), got)
	if strings.HasPrefix(filepath.Base(file), "good") {
		require.Empty(t, found)
	} else {
		require.NotEmpty(t, got)
	}

	// Compile says the same of services, in one error.
	if services := servicesOf(fd); len(services) > 0 {
		_, err := Compile(services...)
		require.Equal(t, len(found), len(problemsOf(err)), "%v", err)
		for i, p := range problemsOf(err) {
			require.Contains(t, found, Finding{
				Rule: p.Rule, Element: p.Element, Text: p.Text,
				File: file, Line: found[i].Line, Column: found[i].Column,
			})
		}
	}
}

// problemsOf takes a Compile error apart.
func problemsOf(err error) (list []*Problem) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		var p *Problem
		if errors.As(e, &p) {
			list = append(list, p)
		}
	}
	return list
}
