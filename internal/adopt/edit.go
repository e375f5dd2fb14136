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
		edits = append(edits, e...)
	}
	if len(edits) == 0 {
		return text, nil
	}
	if !imports(fd, optionsFile) {
		edits = append(edits, importOf(fd, text))
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.at - a.at }) // from the end, so that places stay
	newline := "\n"
	if strings.Contains(text, "\r\n") {
		newline = "\r\n"
	}
	for _, e := range edits {
		e.insert = strings.ReplaceAll(e.insert, "\n", newline)
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
func insertion(text string, p Proposal) ([]edit, error) {
	at := p.Element.ParentFile().SourceLocations().ByDescriptor(p.Element)
	start, end := offset(text, at.StartLine, at.StartColumn), offset(text, at.EndLine, at.EndColumn)
	if start < 0 || end > len(text) || start >= end {
		return nil, fmt.Errorf("%s has no place in its file: has it been compiled with source information?", p.Element.FullName())
	}
	outer := strings.Repeat(" ", at.StartColumn)
	inner := outer + "  "
	body := "\n" + inner + strings.Join(p.Options, "\n"+inner)
	open := strings.IndexByte(text[start:end], '{')
	if open < 0 {
		if text[end-1] != ';' {
			return nil, fmt.Errorf("%s ends neither in ; nor in }", p.Element.FullName())
		}
		return []edit{{at: end - 1, drop: 1, insert: " {" + body + "\n" + outer + "}"}}, nil
	}
	open += start + 1
	inside := text[open : end-1] // what is between the braces
	if strings.TrimSpace(inside) == "" {
		return []edit{{at: open, drop: len(inside), insert: body + "\n" + outer}}, nil
	}
	first, more, lines := strings.Cut(inside, "\n")
	if _, message := p.Element.(protoreflect.MessageDescriptor); message && !strings.HasPrefix(strings.TrimLeft(more, " \t\r"), "\n") {
		body += "\n" // a blank line before the fields
	}
	if rest := strings.TrimSpace(first); rest == "" || strings.HasPrefix(rest, "//") {
		return []edit{{at: open + len(strings.TrimRight(first, " \t\r")), insert: body}}, nil
	}
	// Something follows the brace in its line: into a line of its own.
	edits := []edit{{at: open, drop: len(first) - len(strings.TrimLeft(first, " \t")), insert: body + "\n" + inner}}
	if !lines {
		behind := len(inside) - len(strings.TrimRight(inside, " \t"))
		edits = append(edits, edit{at: end - 1 - behind, drop: behind, insert: "\n" + outer})
	}
	return edits, nil
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

// importOf puts the import where buf format has it: among the others by its name, or
// between blank lines behind the package.
func importOf(fd protoreflect.FileDescriptor, text string) edit {
	const packageField, importField, syntaxField, editionField = 2, 3, 12, 14 // of FileDescriptorProto
	line := fmt.Sprintf("import %q;\n", optionsFile)
	head, last := -1, -1 // the lines of what stands before imports, and of the last of these
	locations := fd.SourceLocations()
	for i := range locations.Len() {
		at := locations.Get(i)
		switch {
		case len(at.Path) == 2 && at.Path[0] == importField:
			if fd.Imports().Get(int(at.Path[1])).Path() > optionsFile && (last < 0 || fd.Imports().Get(int(at.Path[1])-1).Path() < optionsFile) {
				return edit{at: offset(text, at.StartLine, at.StartColumn), insert: line}
			}
			last = max(last, at.EndLine)
		case len(at.Path) == 1 && (at.Path[0] == packageField || at.Path[0] == syntaxField || at.Path[0] == editionField):
			head = max(head, at.EndLine)
		}
	}
	if last >= 0 {
		return edit{at: offset(text, last+1, 0), insert: line}
	}
	behind := offset(text, head+1, 0)
	if next := text[behind:]; !strings.HasPrefix(next, "\n") && !strings.HasPrefix(next, "\r\n") && next != "" {
		line += "\n"
	}
	return edit{at: behind, insert: "\n" + line}
}
