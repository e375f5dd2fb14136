package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	code, stdout, _ := runs(t, "version")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, " "+runtime.GOOS+"/"+runtime.GOARCH)
	code, flag, _ := runs(t, "--version")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, flag[:len(flag)-1])

	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.2.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
	}}
	require.Equal(t, "freshet v0.2.0 0123456789ab (modified) go1.26.8", versionOf(info, ""))
	require.Equal(t, "freshet v0.3.0 go1.26.8", versionOf(&debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}}, "v0.3.0"))
}
