package contract

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Finding is a Problem with its place in the source.
type Finding struct {
	Rule    string
	Element string // full protobuf name
	Text    string

	File   string // as the image names it, relative to the module's root
	Line   int    // from 1; 0: the image carries no source information
	Column int    // from 1, in bytes
}

// String is the finding on one line, in the form that editors know.
func (f Finding) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	return fmt.Sprintf("%s: %s: %s (%s)", at, f.Element, f.Text, f.Rule)
}

// Lint checks the contract in a buf image, or any other serialized
// google.protobuf.FileDescriptorSet that holds its imports:
//
//	buf build -o image.binpb
//	protoc --include_imports --include_source_info -o image.binpb …
//
// It applies the rules of Compile to all services of the image that declare
// something, but those of files which buf marks as imports, and to all sources.
// It can't know which services are handed to the server: one that declares
// nothing at all passes here, and is refused by Compile.
//
// The findings are sorted by place. The error is about the image itself.
func Lint(image []byte) ([]Finding, error) {
	services, files, err := readImage(image)
	if err != nil {
		return nil, err
	}
	return findings(collect(services, files).check(rules)), nil
}

// ImageServices returns the services that Lint looks at: those of an image that
// declare something, but for those of files which buf marks as imports; none is no
// error. Compile takes them, for tools that know a service by its image alone.
func ImageServices(image []byte) ([]protoreflect.ServiceDescriptor, error) {
	services, _, err := readImage(image)
	return services, err
}

// readImage returns the services of an image that declare something, and all its files.
func readImage(image []byte) (services []protoreflect.ServiceDescriptor, files []protoreflect.FileDescriptor, err error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(image, set); err != nil {
		return nil, nil, fmt.Errorf("contract: read image: %w", err)
	}
	if len(set.GetFile()) == 0 {
		return nil, nil, errors.New("contract: read image: it holds no files")
	}
	registry, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, nil, fmt.Errorf("contract: read image (it must hold all imports): %w", err)
	}
	for _, f := range set.GetFile() {
		fd, err := registry.FindFileByPath(f.GetName())
		if err != nil {
			return nil, nil, fmt.Errorf("contract: read image: %w", err)
		}
		files = append(files, fd)
		if isImport(f) {
			continue
		}
		for i := range fd.Services().Len() {
			if sd := fd.Services().Get(i); declares(sd) {
				services = append(services, sd)
			}
		}
	}
	return services, files, nil
}

// declares reports whether a method of the service has an option of freshet.v1,
// known or not.
func declares(sd protoreflect.ServiceDescriptor) bool {
	s := new(schema)
	for i := range sd.Methods().Len() {
		s.addMethod(sd.Methods().Get(i))
	}
	return slices.ContainsFunc(s.methods, func(d *methodDecl) bool {
		return d.reads != nil || d.writes != nil || d.unknown != nil
	})
}

// isImport reports whether buf put the file into the image only because another
// one imports it: buf.alpha.image.v1.ImageFileExtension, which has stayed the
// same since 2020, is field 8042 of a file, and is_import is field 1 of that.
func isImport(f *descriptorpb.FileDescriptorProto) bool {
	const bufExtension, isImport = 8042, 1
	for b := f.ProtoReflect().GetUnknown(); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false // not reached: unmarshalled above
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if num == bufExtension && typ == protowire.BytesType {
			extension, _ := protowire.ConsumeBytes(b[n:])
			num, typ, m := protowire.ConsumeTag(extension)
			if m > 0 && num == isImport && typ == protowire.VarintType {
				v, _ := protowire.ConsumeVarint(extension[m:])
				return v != 0
			}
		}
		b = b[n+size:]
	}
	return false
}

func findings(problems []*Problem) []Finding {
	list := make([]Finding, len(problems))
	for i, p := range problems {
		list[i] = Finding{Rule: p.Rule, Element: p.Element, Text: p.Text, File: p.file.Path()}
		if at, ok := locate(p.file, p.path); ok {
			list[i].Line, list[i].Column = at.StartLine+1, at.StartColumn+1
		}
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return list
}

// locate finds the innermost location around a path. Compilers differ in how
// far into an option's value they go: buf to the element of a list, protoc to
// the option's statement.
func locate(file protoreflect.FileDescriptor, path protoreflect.SourcePath) (protoreflect.SourceLocation, bool) {
	for ; len(path) > 0; path = path[:len(path)-1] {
		// A path without a location gives the zero location, which has no path.
		if at := file.SourceLocations().ByPath(path); at.Path != nil {
			return at, true
		}
	}
	return protoreflect.SourceLocation{}, false
}
