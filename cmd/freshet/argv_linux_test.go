package main

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// F69: a password that was given by flag is not in the process list.
func TestMain_F69_processList(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	silent, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }() // a database that never answers
	cmd := exec.CommandContext(testkit.Context(t), program, "serve", "--addr=127.0.0.1:0", "--admin-addr=", "--database-url=postgres://ada:s3cret@"+silent.Addr().String()+"/app")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	_, err = stderr.Read(make([]byte, 1)) // the log has begun: arguments have been taken
	require.NoError(t, err)
	line, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cmdline")
	require.NoError(t, err)
	require.Contains(t, string(line), "postgres://ada:******@"+silent.Addr().String()+"/app")
	require.NotContains(t, string(line), "s3cret")
}
