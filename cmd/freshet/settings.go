package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// maxSettingsBytes bounds a configuration file: nobody writes a larger one.
const maxSettingsBytes = 1 << 20

// setting is one line of a configuration file.
type setting struct {
	line int
	is   any // string, or []any of strings: what kong makes a flag's value of
}

// settings are a configuration file: flags of serve, by the names that they have
// there. What is given on the command line or in the environment comes first.
type settings struct {
	file  string
	given map[string]setting
}

var errNoSettings = errors.New("want one `name: value` per line, as `addr: 127.0.0.1:8080`")

// BeforeResolve is called by kong, before values that the command line and the
// environment have not given are looked for elsewhere.
func (c *cli) BeforeResolve(parsed *kong.Context) error {
	at := slices.IndexFunc(parsed.Model.Flags, func(f *kong.Flag) bool { return f.Name == "config" })
	file, _ := parsed.FlagValue(parsed.Model.Flags[at]).(string)
	if file == "" || !takesSettings(parsed) {
		return nil
	}
	s, err := readSettings(file, parsed.Model)
	if err != nil {
		return err
	}
	c.settings = s
	parsed.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if inEnvironment(flag) != "" {
			return nil, nil
		}
		if given, ok := s.given[flag.Name]; ok {
			return given.is, nil
		}
		return nil, nil
	}))
	return nil
}

// takesSettings reports whether the command is serve, or one that works on what
// serve does. Commands that call a server from elsewhere have flags that mean others.
func takesSettings(parsed *kong.Context) bool {
	command, _, _ := strings.Cut(parsed.Command(), " ")
	return slices.Contains([]string{"serve", "config", "doctor", "migrate", "teardown", "grants"}, command)
}

// readSettings reads a file. The error has a line for each mistake.
func readSettings(path string, app *kong.Application) (*settings, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxSettingsBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	if len(text) > maxSettingsBytes {
		return nil, fmt.Errorf("--config: %s is larger than 1 MiB", path)
	}
	s := &settings{file: path, given: map[string]setting{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return s, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, unread(err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is more than one YAML document in it", path)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return s, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: %w", path, root.Line, errNoSettings)
	}
	return s, s.take(root, settable(app))
}

// unread is why a file is no YAML. The library's errors may quote the text, which
// may be a password.
func unread(err error) error {
	if strings.Contains(err.Error(), "unknown anchor") {
		return errors.New(`YAML takes * for a reference: put it in quotes, "*"`)
	}
	if line := yamlLine.FindString(err.Error()); line != "" {
		return fmt.Errorf("it is no YAML, at about %s: %w", line, errNoSettings)
	}
	return fmt.Errorf("it is no YAML: %w", errNoSettings)
}

var yamlLine = regexp.MustCompile(`line \d+`)

// take reads all lines.
func (s *settings) take(root *yaml.Node, flags []*kong.Flag) error {
	var all error
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if err := s.takeOne(key.Value, value, flags); err != nil {
			all = errors.Join(all, fmt.Errorf("%s:%d: %w", s.file, key.Line, err))
			continue
		}
	}
	return all
}

func (s *settings) takeOne(name string, value *yaml.Node, flags []*kong.Flag) error {
	at := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == name })
	if at < 0 {
		return fmt.Errorf("there is no setting %q%s", name, nearestOf(name, flags))
	}
	if earlier, ok := s.given[name]; ok {
		return fmt.Errorf("%s is there already, in line %d: leave one of them out", name, earlier.line)
	}
	flag := flags[at]
	many := flag.IsSlice()
	is, err := plain(value, many)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.given[name] = setting{line: value.Line, is: is}
	// As kong will, but here it is known where it stands.
	into := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.Scan().PushTyped(is, kong.FlagValueToken), into); err != nil {
		return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "--"+name+": "))
	}
	if text, _ := is.(string); flag.Enum != "" && !flag.EnumMap()[text] {
		return fmt.Errorf("%s: want one of %s, not %q", name, strings.Join(flag.EnumSlice(), ", "), text)
	}
	return nil
}

// plain is a value as kong takes it. Its errors don't quote what may be a secret.
func plain(value *yaml.Node, many bool) (any, error) {
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag == "!!null" {
			return nil, errors.New("there is no value; leave the line out for the default")
		}
		return value.Value, nil
	case yaml.SequenceNode:
		if !many {
			return nil, errors.New("want one value, not a list")
		}
		list := []any{}
		for _, element := range value.Content {
			if element.Kind != yaml.ScalarNode || element.Tag == "!!null" {
				return nil, errors.New(`want a list of plain values, as ["a", "b"]`)
			}
			list = append(list, element.Value)
		}
		return list, nil
	case yaml.AliasNode:
		return nil, errors.New(`YAML takes * for a reference: put it in quotes, "*"`)
	default:
		return nil, errors.New("want a value; settings have no groups")
	}
}

// settable are the flags that a file may have.
func settable(app *kong.Application) (flags []*kong.Flag) {
	for _, node := range app.Children {
		if node.Name == "serve" {
			flags = append(flags, node.Flags...)
		}
	}
	flags = append(flags, app.Flags...)
	return slices.DeleteFunc(flags, func(f *kong.Flag) bool {
		return f.Name == "help" || f.Name == "version" || f.Name == "config"
	})
}

// inEnvironment is the variable that gives the flag's value; empty: none does.
func inEnvironment(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	return ""
}

// origin is where the value of a flag comes from.
func (s *settings) origin(parsed *kong.Context, flag *kong.Flag) string {
	for _, path := range parsed.Path {
		if path.Flag == flag && !path.Resolved {
			return "--" + flag.Name
		}
	}
	if name := inEnvironment(flag); name != "" {
		return name
	}
	if s != nil {
		if given, ok := s.given[flag.Name]; ok {
			return fmt.Sprintf("%s:%d", s.file, given.line)
		}
	}
	return "default"
}

// isDefault reports whether nobody has given a flag's value.
func (s *settings) isDefault(parsed *kong.Context, name string) bool {
	return slices.ContainsFunc(parsed.Flags(), func(f *kong.Flag) bool { return f.Name == name && s.origin(parsed, f) == "default" })
}

var namesFlag = regexp.MustCompile(`(?m)^--([a-z][a-z0-9-]*)`)

// whence adds to an error about flags where their values come from, unless that is
// the command line.
func (s *settings) whence(parsed *kong.Context, err error) string {
	return namesFlag.ReplaceAllStringFunc(err.Error(), func(name string) string {
		for _, flag := range parsed.Flags() {
			if "--"+flag.Name != name {
				continue
			}
			if from := s.origin(parsed, flag); from != name && from != "default" {
				return from + ": " + name
			}
		}
		return name
	})
}

// nearestOf proposes what may have been meant.
func nearestOf(name string, flags []*kong.Flag) string {
	best, distance := "", len(name)/2+1
	for _, flag := range flags {
		if d := edits(name, flag.Name); d < distance {
			best, distance = flag.Name, d
		}
	}
	if positive, ok := strings.CutPrefix(name, "no-"); ok {
		for _, flag := range flags {
			if flag.Name == positive && flag.IsBool() {
				return fmt.Sprintf("; write `%s: false`", positive)
			}
		}
	}
	if best == "" {
		return "; `freshet config print` lists them"
	}
	return fmt.Sprintf("; do you mean %s?", best)
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
