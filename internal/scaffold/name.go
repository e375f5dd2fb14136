package scaffold

import (
	"encoding/base64"
	"errors"
	"fmt"
	"go/format"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"
)

// taken are packages that a service would have its own files in.
var taken = []string{"freshet", "google", "buf"}

// Name derives a service's name from a text, as the name of its folder: lower-case
// letters, digits and _, a letter first, so that it may name a slot and a publication.
// What else is in it becomes _ between words; but a letter that can't stand in it is
// refused, since without it the name is another word.
func Name(text string) (string, error) {
	for _, r := range text {
		if r > unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)) {
			return "", fmt.Errorf("%q can't name a service: it has %q, and the name of a proto package has the letters a to z only", text, r)
		}
	}
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	name := strings.TrimLeft(strings.Join(words, "_"), "0123456789_")
	others := slices.DeleteFunc(slices.Clone(taken), func(t string) bool { return t == packageOf(name) })
	switch {
	case name == "":
		return "", fmt.Errorf("no name of a service can be made of %q: it has no letter from a to z", text)
	case slices.Contains(taken, packageOf(name)):
		return "", fmt.Errorf("%q can't name a service: the protos of %s.… are somebody else's, as are those of %s", text, packageOf(name), strings.Join(others, " and "))
	}
	return name, nil
}

// packageOf is the first part of a service's proto package, and its folder.
func packageOf(name string) string { return strings.ReplaceAll(name, "_", "") }

// renaming makes texts of the service `tasks` those of another one.
func renaming(name string) *strings.Replacer {
	pkg := packageOf(name)
	return strings.NewReplacer(
		"tasks.v1", pkg+".v1", "tasks/v1", pkg+"/v1", "tasksv1", pkg+"v1", "tasks_v1", pkg+"_v1",
		`Slot:         "tasks"`, `Slot:         "`+name+`"`, `Publication:  "tasks"`, `Publication:  "`+name+`"`,
		`"name": "tasks"`, `"name": "`+name+`"`,
		"# Tasks\n", "# "+name+"\n",
	)
}

// Where the generated code holds its file's descriptor, whose texts have their lengths before them.
var (
	goDescriptor = regexp.MustCompile(`rawDesc = "" \+\n((?:\t".*"(?: \+)?\n)+)`)
	tsDescriptor = regexp.MustCompile(`fileDesc\("([A-Za-z0-9+/=]+)"`)
)

// rename rewrites a file of the service, in whose path that is done already.
func rename(path, text string, names *strings.Replacer) (string, error) {
	var err error
	switch {
	case strings.HasSuffix(path, ".pb.go"):
		text, err = around(goDescriptor, text, names, unquote, quote)
	case strings.HasSuffix(path, "_pb.ts"):
		text, err = around(tsDescriptor, text, names, base64.RawStdEncoding.DecodeString, base64.RawStdEncoding.EncodeToString)
	default:
		text = names.Replace(text)
	}
	if err == nil && strings.HasSuffix(path, ".go") { // names have other lengths, and another order
		formatted, failed := format.Source([]byte(text))
		return string(formatted), failed
	}
	return text, err
}

// around rewrites a text, and by itself the descriptor in it.
func around(at *regexp.Regexp, text string, names *strings.Replacer, decode func(string) ([]byte, error), encode func([]byte) string) (string, error) {
	m := at.FindStringSubmatchIndex(text)
	if m == nil {
		return "", errors.New("there is no descriptor in it")
	}
	raw, err := decode(text[m[2]:m[3]])
	if err != nil {
		return "", err
	}
	raw, err = descriptor.rename(raw, names)
	return names.Replace(text[:m[2]]) + encode(raw) + names.Replace(text[m[3]:]), err
}

// unquote reads the lines of a Go constant.
func unquote(lines string) (raw []byte, err error) {
	for line := range strings.Lines(lines) {
		text, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(line), " +"))
		if err != nil {
			return nil, err
		}
		raw = append(raw, text...)
	}
	return raw, nil
}

// quote writes them as protoc-gen-go does.
func quote(raw []byte) string {
	var lines []string
	for line := range strings.Lines(string(raw)) {
		lines = append(lines, "\t"+strconv.Quote(line))
	}
	return strings.Join(lines, " +\n") + "\n"
}

// shape says which fields of a message hold names, and which hold messages that do.
type shape struct {
	names []protowire.Number
	in    map[protowire.Number]*shape
}

// descriptor is the shape of a FileDescriptorProto, as far as the service's has it.
var descriptor = &shape{names: []protowire.Number{1, 2}, in: map[protowire.Number]*shape{
	4: {in: map[protowire.Number]*shape{2: {names: []protowire.Number{6}}}},    // messages, fields, their types
	6: {in: map[protowire.Number]*shape{2: {names: []protowire.Number{2, 3}}}}, // services, methods, request and response
}}

// rename rewrites the names in a message. All else, and its order, stays.
func (s *shape) rename(raw []byte, names *strings.Replacer) (renamed []byte, err error) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, raw[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		value, _ := protowire.ConsumeBytes(raw[n : n+size])
		switch inner := s.in[number]; {
		case kind == protowire.BytesType && inner != nil:
			if value, err = inner.rename(value, names); err != nil {
				return nil, err
			}
			renamed = protowire.AppendBytes(protowire.AppendTag(renamed, number, kind), value)
		case kind == protowire.BytesType && slices.Contains(s.names, number):
			renamed = protowire.AppendString(protowire.AppendTag(renamed, number, kind), names.Replace(string(value)))
		default:
			renamed = append(renamed, raw[:n+size]...)
		}
		raw = raw[n+size:]
	}
	return renamed, nil
}
