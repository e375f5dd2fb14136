package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "serve", "conformance client"} {
		words := strings.Fields(command)
		code, flag, _ := runs(t, append(words, "--help")...)
		require.Equal(t, exitOK, code)
		code, help, _ := runs(t, append([]string{"help"}, words...)...)
		require.Equal(t, exitOK, code)
		require.Equal(t, flag, help)
		require.Contains(t, help, strings.TrimSpace("Usage: freshet "+command))
	}
	code, _, stderr := runs(t, "help", "nothing")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "nothing")
}
