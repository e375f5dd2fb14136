package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// documents are those of a YAML file.
func documents(t *testing.T, file string) (all []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // the test's
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var one map[string]any
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else {
			require.NoError(t, err, file)
		}
		all = append(all, one)
	}
}

// in looks a path up in what YAML made; nil: it isn't there.
func in(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := value.(map[string]any)
			value = m[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		}
	}
	return value
}

// parses says whether the program takes a command line.
func parses(t *testing.T, args ...string) {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	_, err = parser.Parse(args)
	require.NoError(t, err, args)
}

// twins are the names of the environment that some command reads.
func twins(t *testing.T) map[string]bool {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	names := map[string]bool{}
	for _, leaf := range parser.Model.Leaves(false) {
		for _, group := range leaf.AllFlags(false) {
			for _, flag := range group {
				for _, env := range flag.Envs {
					names[env] = true
				}
			}
		}
	}
	return names
}

// The settings that the manifests bring are settings that serve starts with, the
// command lines are ours, and each variable has a flag.
func TestDeploy_kubernetes(t *testing.T) {
	dir := t.TempDir()
	config := documents(t, "deploy/kubernetes/config.yaml")[0]
	for _, name := range []string{"freshet.yaml", "grants.yaml"} {
		text, _ := in(config, "data", name).(string)
		require.NotEmpty(t, text, name)
		text = strings.ReplaceAll(text, "/etc/freshet/", dir+"/")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	code, out, said := runs(t, "config", "check", "--config", filepath.Join(dir, "freshet.yaml"), "--database-url", "postgres://db.internal/app")
	require.Zero(t, code, said)
	require.Contains(t, out, "drain: 20s")

	t.Setenv("FRESHET_DATABASE_URL", "postgres://db.internal/app") // of the Secret
	known := twins(t)
	containers := 0
	for _, file := range []string{"freshet.yaml", "migrate.yaml"} {
		for _, document := range documents(t, filepath.Join("deploy/kubernetes", file)) {
			container := in(document, "spec", "template", "spec", "containers", 0)
			if container == nil {
				continue
			}
			containers++
			var args []string
			for _, arg := range in(container, "args").([]any) { //nolint:forcetypeassert // or it fails
				args = append(args, strings.ReplaceAll(arg.(string), "/etc/freshet/", dir+"/")) //nolint:forcetypeassert // the same
			}
			parses(t, args...)
			for _, variable := range in(container, "env").([]any) { //nolint:forcetypeassert // the same
				if name, _ := in(variable, "name").(string); strings.HasPrefix(name, "FRESHET_") {
					require.True(t, known[name], name)
				}
			}
			require.Equal(t, true, in(container, "securityContext", "readOnlyRootFilesystem"))
		}
	}
	require.Equal(t, 2, containers)
}

// systemd finds nothing wrong with the units, and little that they leave open; what
// they start is a command line of ours, and the template is the other one but for its
// ports.
func TestDeploy_systemd(t *testing.T) {
	one, err := os.ReadFile("deploy/systemd/freshet.service")
	require.NoError(t, err)
	template, err := os.ReadFile("deploy/systemd/freshet@.service")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(one), "# /etc/freshet/freshet.yaml;")
	_, of, _ := strings.Cut(string(template), "# /etc/freshet/freshet.yaml;")
	require.NotEmpty(t, rest)
	require.Equal(t, rest, strings.NewReplacer(", on port %i", "", " --addr 127.0.0.1:%i --admin-addr 127.0.0.1:1%i", "").Replace(of))

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("NOT RUN: there is no systemd-analyze; `make deps` installs it")
	}
	require.NoError(t, err, "`make deps` installs it")
	for name, unit := range map[string][]byte{"freshet.service": one, "freshet@8081.service": template} {
		requireSound(t, analyze, name, unit)
	}
}

func requireSound(t *testing.T, analyze, name string, unit []byte) {
	t.Helper()
	const binary = "/usr/local/bin/freshet"
	started := ""
	for lines := bufio.NewScanner(bytes.NewReader(unit)); lines.Scan(); {
		if command, ok := strings.CutPrefix(lines.Text(), "ExecStart="+binary+" "); ok {
			started = strings.ReplaceAll(command, "%i", "8081")
		}
	}
	empty := filepath.Join(t.TempDir(), "freshet.yaml")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	parses(t, strings.Fields(strings.ReplaceAll(started, "/etc/freshet/freshet.yaml", empty))...)

	self, err := os.Executable() // any program, in the place of one that isn't installed here
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(unit, []byte(binary), []byte(self)), 0o600))
	for _, args := range [][]string{
		{"verify", "--man=no", file},
		{"security", "--no-pager", "--offline=true", "--threshold=20", file}, // of 100
	} {
		out, err := exec.CommandContext(testkit.Context(t), analyze, args...).CombinedOutput() //nolint:gosec // the test's
		require.NoError(t, err, "%s: %s", args[0], out)
		if args[0] == "verify" {
			require.Empty(t, string(out))
		}
	}
}
