package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct {
	Folder string `arg:"" type:"path" help:"Where to write them; it is made if it isn't there."`
}

// Help is printed by `freshet man --help`.
func (*manCmd) Help() string {
	return `One page for the program, and one for each command:

  freshet man /usr/local/share/man/man1 && man freshet-serve`
}

// Run writes a page for each command.
func (c *manCmd) Run(parsed *kong.Context) error {
	if err := os.MkdirAll(c.Folder, 0o755); err != nil { //nolint:gosec // all may read manuals
		return err
	}
	for _, node := range commandsOf(parsed.Model.Node) {
		file := filepath.Join(c.Folder, pageName(node)+".1")
		if err := os.WriteFile(file, []byte(manPage(node)), 0o644); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}

// commandsOf is the node and all commands below it that are not hidden.
func commandsOf(node *kong.Node) []*kong.Node {
	all := []*kong.Node{node}
	for _, child := range node.Children {
		if !child.Hidden {
			all = append(all, commandsOf(child)...)
		}
	}
	return all
}

func pageName(node *kong.Node) string { return strings.ReplaceAll(node.FullPath(), " ", "-") }

// manPage is a manual page in man(7). It has no date: the same program writes the
// same pages.
func manPage(node *kong.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"freshet\" \"Freshet\"\n", quoted(strings.ToUpper(pageName(node))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(node)), roff(strings.TrimSuffix(firstLine(node.Help), ".")))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(node.FullPath()), roff(synopsis(node)))
	if node.Detail != "" {
		b.WriteString(".SH DESCRIPTION\n")
		manText(&b, node.Detail)
	}
	if len(node.Positional) > 0 {
		b.WriteString(".SH ARGUMENTS\n")
		for _, arg := range node.Positional {
			fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", roff(arg.Summary()), roff(arg.Help))
		}
	}
	manFlags(&b, node)
	if len(node.Children) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, child := range node.Children {
			if !child.Hidden {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(pageName(child)), roff(child.Help))
			}
		}
	}
	b.WriteString(".SH EXIT STATUS\n0 on success, 1 when it failed or found something, 2 when it was called wrongly.\n")
	return b.String()
}

func manFlags(b *strings.Builder, node *kong.Node) {
	title := ".SH OPTIONS\n"
	for at := node; at != nil; at = at.Parent {
		for _, flag := range at.Flags {
			if flag.Hidden {
				continue
			}
			b.WriteString(title)
			title = ""
			fmt.Fprintf(b, ".TP\n.B %s\n%s", roff(flag.String()), roff(flag.Help))
			if len(flag.Envs) > 0 {
				fmt.Fprintf(b, " Environment: \\fB%s\\fR.", roff(strings.Join(flag.Envs, ", ")))
			}
			b.WriteString("\n")
		}
	}
}

// synopsis is what follows the command's name.
func synopsis(node *kong.Node) string {
	parts := []string{"[options]"}
	for _, arg := range node.Positional {
		parts = append(parts, arg.Summary())
	}
	if len(node.Children) > 0 {
		parts = append(parts, "<command>")
	}
	return strings.Join(parts, " ")
}

// manText writes paragraphs; lines that are indented are printed as they are.
func manText(b *strings.Builder, text string) {
	verbatim, begun := false, true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" {
			begun = false
			continue
		}
		if !begun {
			b.WriteString(".P\n")
			begun = true
		}
		if is := strings.HasPrefix(line, "  "); is != verbatim {
			verbatim = is
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[is])
		}
		b.WriteString(roff(line) + "\n")
	}
	if verbatim {
		b.WriteString(".fi\n")
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", "'")

// roff escapes text so that it is printed as it is: a backslash, a dash that is no
// hyphen, and a dot or an apostrophe that begins a line, which begins a request.
func roff(text string) string {
	text = roffEscapes.Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func quoted(text string) string { return `"` + roff(text) + `"` }
