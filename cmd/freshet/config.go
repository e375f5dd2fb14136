package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/server"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say what serve would use, and from where, and what is wrong with it."`
	Print configPrintCmd `cmd:"" help:"Print a file for --config, with all there is to set, and the defaults."`
}

// configCheckCmd has serve's flags, so that it can be asked about them too.
type configCheckCmd struct {
	Serve serveCmd `embed:""`
}

// Help is printed by `freshet config check --help`.
func (*configCheckCmd) Help() string {
	return `Give it what serve will be given: the same flags, environment and file. It prints each value as a line of such a file, with where it comes from (flag, environment, file and line, or default) and without passwords, looks at the files that are named, and exits with status 1 if serve would not start, with 2 if the file can't be used. It opens no port and asks no database: freshet doctor does.

  freshet config check --config freshet.yaml`
}

// Run tells, then judges.
func (c *configCheckCmd) Run(parsed *kong.Context, s *settings, to streams) error {
	if err := tellSettings(to.out, parsed, s); err != nil {
		return err
	}
	for _, remark := range strangers(parsed.Model) {
		fmt.Fprintln(to.err, "freshet: remark:", remark)
	}
	if err := s.readableByAll(); err != nil {
		fmt.Fprintln(to.err, "freshet:", err)
	}
	if err := c.Serve.judge(); err != nil {
		return errors.New(err.Error()) // what it was to find: of other settings than its own
	}
	return nil
}

// judge does what serve does before it opens anything.
func (c *serveCmd) judge() error {
	logger := slog.New(slog.DiscardHandler)
	if err := c.checkDemo(); err != nil {
		return err
	}
	f, err := front.New(c.front(logger))
	if err != nil {
		return err
	}
	if _, err := c.openAuth(logger, prometheus.NewRegistry(), f.Caller); err != nil {
		return err
	}
	if _, err := c.openGrants(logger, prometheus.NewRegistry(), nil); err != nil {
		return err
	}
	cfg := c.node(logger)
	cfg.Caller = f.Caller
	if c.DatabaseURL == "" {
		cfg.Connect = (&privatePostgres{}).connect // which is never called
	}
	node, err := server.New(cfg)
	if err != nil {
		return inFlags(err)
	}
	node.Close()
	return nil
}

// tellSettings prints each value and where it comes from.
func tellSettings(w io.Writer, parsed *kong.Context, s *settings) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	known := settable(parsed.Model)
	for _, flag := range parsed.Flags() {
		if !slices.ContainsFunc(known, func(f *kong.Flag) bool { return f.Name == flag.Name }) {
			continue
		}
		origin := s.origin(parsed, flag)
		line, err := settingLine(flag.Name, flag.Target, origin == "default")
		if err != nil {
			return err
		}
		fmt.Fprintf(columns, "%s\t# %s\n", line, origin)
	}
	return columns.Flush()
}

// settingLine is a flag's value as a line of a file; a comment where nobody has set
// it and its default is none.
func settingLine(name string, value reflect.Value, isDefault bool) (string, error) {
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return "# " + name + ": unset", nil
		}
		value = value.Elem()
	}
	var node yaml.Node
	var is any
	switch v := value.Interface().(type) {
	case time.Duration:
		is = v.String()
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return "", err
		}
		is = strings.ToLower(string(text))
	case string:
		is = blotted(v)
	case []string:
		list := make([]string, 0, len(v))
		for _, one := range v {
			list = append(list, blotted(one))
		}
		is = list
	default:
		is = v
	}
	if is == "" && isDefault {
		return "# " + name + ": unset", nil
	}
	if err := node.Encode(is); err != nil {
		return "", err
	}
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(&node)
	return name + ": " + strings.TrimSuffix(string(text), "\n"), err
}

// blotted is a text without the secrets in it.
func blotted(text string) string {
	bounds := secretsIn(text)
	slices.SortFunc(bounds, func(a, b [2]int) int { return b[0] - a[0] }) // from behind
	for _, at := range bounds {
		text = text[:at[0]] + "***" + text[at[1]:]
	}
	return text
}

// strangers are variables of our prefix that nothing reads: slips, perhaps. It is
// no mistake: Kubernetes sets FRESHET_PORT and its like for a Service of that name.
func strangers(app *kong.Application) (remarks []string) {
	var flags []*kong.Flag
	var visit func(*kong.Node)
	visit = func(n *kong.Node) {
		flags = append(flags, n.Flags...)
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		short, ours := strings.CutPrefix(name, "FRESHET_")
		if !ours || slices.ContainsFunc(flags, func(f *kong.Flag) bool { return slices.Contains(f.Envs, name) }) {
			continue
		}
		meant := nearestOf(strings.ToLower(strings.ReplaceAll(short, "_", "-")), settable(app))
		remarks = append(remarks, fmt.Sprintf("nothing reads the variable %s%s", name, meant))
	}
	slices.Sort(remarks)
	return remarks
}

// readableByAll is a remark on a file with a password in it.
func (s *settings) readableByAll() error {
	if s == nil {
		return nil
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return fmt.Errorf("remark: --config: %w", err)
	}
	if info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	for name, given := range s.given {
		if len(secretsIn(fmt.Sprint(given.is))) > 0 {
			return fmt.Errorf("remark: %s:%d: %s has a password in it, and everybody on this machine may read the file: chmod o-r", s.file, given.line, name)
		}
	}
	return nil
}

type configPrintCmd struct{}

// Help is printed by `freshet config print --help`.
func (*configPrintCmd) Help() string {
	return `  freshet config print >freshet.yaml

Every line is a comment: take the # from what you want to change.`
}

// Run prints the sample.
func (*configPrintCmd) Run(parsed *kong.Context, to streams) error {
	var sample strings.Builder
	sample.WriteString("# Settings of `freshet serve --config FILE`. A flag, or a variable (FRESHET_ADDR for addr), comes before this file.\n")
	for _, flag := range settable(parsed.Model) {
		value := "unset"
		switch {
		case flag.HasDefault:
			value = flag.Default
		case flag.IsBool():
			value = "false"
		case flag.IsSlice():
			value = "[]"
		}
		fmt.Fprintf(&sample, "\n# %s\n# %s: %s\n", flag.Help, flag.Name, value)
	}
	_, err := io.WriteString(to.out, sample.String())
	return err
}
