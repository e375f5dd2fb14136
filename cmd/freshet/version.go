package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is the version for builds that the toolchain knows none of: those from
// an archive of the source, without Git. A packager sets it:
//
//	go build -ldflags "-X main.release=v1.2.3" ./cmd/freshet
//
// Empty: the toolchain knows.
var release string

type versionCmd struct{}

// Run prints a line.
func (*versionCmd) Run(to streams) error {
	_, err := fmt.Fprintf(to.out, "%s %s/%s\n", version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version is what the Go toolchain knows of the build: the module's version after
// `go install` and at a tag, one made of time and revision between tags.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "freshet (unknown build)"
	}
	return versionOf(info, release)
}

func versionOf(info *debug.BuildInfo, release string) string {
	text := "freshet " + info.Main.Version
	if release != "" {
		text = "freshet " + release
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && len(setting.Value) >= 12:
			text += " " + setting.Value[:12]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			text += " (modified)"
		}
	}
	return text + " " + info.GoVersion
}
