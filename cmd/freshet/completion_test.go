package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComplete(t *testing.T) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"ser"}, "serve"},
		{[]string{"--log-format=text", "ser"}, "serve"},
		{[]string{"--log-level", "debug", "ser"}, "serve"},
		{[]string{"--log-format", "j"}, "json"},
		{[]string{"serve", "--log-format="}, "--log-format=text --log-format=json"},
		{[]string{"serve", "--log-format", "=", "j"}, "--log-format=json"},
		{[]string{"config", ""}, "check print"},
		{[]string{"watch", "--vers"}, "--version"},
		{[]string{"completion", ""}, "bash zsh fish"},
		{[]string{"serve", "--config", ""}, ""}, // files
		{[]string{"serve", "--config="}, ""},
		{[]string{"serve", "--nonsense="}, ""},
		{[]string{"compl"}, "completion"}, // complete is hidden
	} {
		var words []string
		for _, found := range complete(parser.Model.Node, joined(tt.words)) {
			require.NotEmpty(t, found.help)
			words = append(words, found.word)
		}
		require.Equal(t, tt.want, strings.Join(words, " "), tt.words)
	}
	require.Len(t, complete(parser.Model.Node, nil), len(parser.Model.Children)-1) // but complete
}

// The scripts, in the shells themselves, with the program that they ask.
func TestCompletion_shells(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(program, filepath.Join(dir, "freshet")))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for shell, ask := range map[string]func(words ...string) string{
		"bash": func(words ...string) string {
			return `source <(freshet completion bash); COMP_WORDS=(freshet ` + strings.Join(words, " ") + `); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _freshet; printf '%s\n' "${COMPREPLY[@]}"`
		},
		// What zsh itself would draw is printed instead.
		"zsh": func(words ...string) string {
			return `compdef() { :; }; _describe() { print -l -- "${(@)described%%:*}"; }; _files() { :; }
source <(freshet completion zsh); words=(freshet ` + strings.Join(words, " ") + `); CURRENT=$#words; _freshet`
		},
		"fish": func(words ...string) string {
			return `freshet completion fish | source; complete -C 'freshet ` + strings.Join(words, " ") + `' | string replace -r '\t.*' ''`
		},
	} {
		t.Run(shell, func(t *testing.T) {
			said := func(words ...string) string {
				cmd := exec.CommandContext(t.Context(), shell, "-c", ask(words...)) //nolint:gosec // a test
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, string(out))
				return strings.TrimSpace(string(out))
			}
			require.Equal(t, "serve", said("ser"))
			require.Equal(t, "check\nprint", said("config", map[bool]string{true: "", false: "''"}[shell == "fish"]))
			require.Equal(t, "--log-format", said("serve", "--log-f"))
			require.Equal(t, "json", said("--log-format", "j"))
		})
	}
}
