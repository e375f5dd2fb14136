package main

import (
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const github = "../../.github"

// The workflows, as the linter for them reads them: keys, expressions, contexts.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(github + "/workflows/*.yml")
	require.NoError(t, err)
	require.Len(t, files, 2)
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	require.NoError(t, err)
	found, err := linter.LintFiles(files, nil)
	require.NoError(t, err)
	for _, finding := range found {
		require.NoError(t, finding)
	}
}

// Each module and each lock file is looked after.
func TestDependabot(t *testing.T) {
	text, err := os.ReadFile(github + "/dependabot.yml")
	require.NoError(t, err)
	var config struct {
		Updates []struct {
			Ecosystem   string   `yaml:"package-ecosystem"`
			Directories []string `yaml:"directories"`
		} `yaml:"updates"`
	}
	require.NoError(t, yaml.Unmarshal(text, &config))
	watched := make(map[string][]string)
	for _, update := range config.Updates {
		watched[update.Ecosystem] = update.Directories
	}
	require.Equal(t, folders(t, "go.mod"), watched["gomod"])
	require.Equal(t, folders(t, "package-lock.json"), watched["npm"])
}

// folders are those that have a file of this name in the repository.
func folders(t *testing.T, name string) (all []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--", name, "*/"+name) //nolint:gosec // a test
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if dir := path.Dir("/" + file); !strings.Contains(dir, "/testdata/") {
			all = append(all, dir)
		}
	}
	slices.Sort(all)
	return all
}
