package adopt

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// optionsFile is what a file that has the options imports.
const optionsFile = "freshet/v1/options.proto"

// Apply returns the text of a file with the proposals for its messages and methods in
// it; the descriptors are to have been made of that very text, with source information.
// The outcome is to be compiled before it is believed in.
func Apply(fd protoreflect.FileDescriptor, text string, proposals []Proposal) (string, error) {
	var edits []edit
	for _, p := range proposals {
		if p.Element.ParentFile().Path() != fd.Path() || len(p.Options) == 0 {
			continue
		}
		e, err := insertion(text, p)
		if err != nil {
			return "", err
		}
		edits = append(edits, e)
	}
	if len(edits) == 0 {
		return text, nil
	}
	if !imports(fd, optionsFile) {
		edits = append(edits, edit{at: afterImports(fd, text), insert: fmt.Sprintf("import %q;\n", optionsFile)})
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.at - a.at }) // from the end, so that places stay
	for _, e := range edits {
		text = text[:e.at] + e.insert + text[e.at+e.drop:]
	}
	return text, nil
}

// edit replaces drop bytes at an offset.
type edit struct {
	at, drop int
	insert   string
}

// insertion puts the options at the beginning of an element's braces, which a method
// may not have yet.
func insertion(text string, p Proposal) (edit, error) {
	at := p.Element.ParentFile().SourceLocations().ByDescriptor(p.Element)
	start, end := offset(text, at.StartLine, at.StartColumn), offset(text, at.EndLine, at.EndColumn)
	if start < 0 || end > len(text) || start >= end {
		return edit{}, fmt.Errorf("%s has no place in its file: has it been compiled with source information?", p.Element.FullName())
	}
	indent := strings.Repeat(" ", at.StartColumn+2)
	body := indent + strings.Join(p.Options, "\n"+indent) + "\n"
	if open := strings.IndexByte(text[start:end], '{'); open >= 0 {
		insert := "\n" + strings.TrimSuffix(body, "\n")
		if _, message := p.Element.(protoreflect.MessageDescriptor); message {
			insert += "\n" // a blank line before the fields
		}
		if text[start+open+1] == '}' { // nothing between them
			insert = strings.TrimSuffix(insert, "\n") + "\n" + strings.Repeat(" ", at.StartColumn)
		}
		return edit{at: start + open + 1, insert: insert}, nil
	}
	if text[end-1] != ';' {
		return edit{}, fmt.Errorf("%s ends neither in ; nor in }", p.Element.FullName())
	}
	return edit{at: end - 1, drop: 1, insert: " {\n" + body + strings.Repeat(" ", at.StartColumn) + "}"}, nil
}

// offset is that of a line and a column, both from 0; -1: the text has no such line.
func offset(text string, line, column int) int {
	at := 0
	for range line {
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			return -1
		}
		at += next + 1
	}
	return at + column
}

func imports(fd protoreflect.FileDescriptor, path string) bool {
	for i := range fd.Imports().Len() {
		if fd.Imports().Get(i).Path() == path {
			return true
		}
	}
	return false
}

// afterImports is the offset of the line behind the last import, or behind the package's.
func afterImports(fd protoreflect.FileDescriptor, text string) int {
	const packageField, importField = 2, 3 // of FileDescriptorProto
	last := -1
	locations := fd.SourceLocations()
	for i := range locations.Len() {
		at := locations.Get(i)
		if (len(at.Path) == 2 && at.Path[0] == importField || len(at.Path) == 1 && at.Path[0] == packageField) && at.EndLine > last {
			last = at.EndLine
		}
	}
	return offset(text, last+1, 0)
}
