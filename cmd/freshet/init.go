package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/freshet-dev/freshet/internal/scaffold"
)

type initCmd struct {
	Dir     string `arg:"" type:"path" help:"Folder of the new service; it must be empty, or not exist."`
	Module  string `placeholder:"PATH" help:"Path of its Go module. Unset: example.com/ and the folder's name."`
	Replace string `placeholder:"DIR" type:"existingdir" help:"A clone of Freshet to build against. Unset: the version of this program."`
}

// Help is printed by `freshet init --help`.
func (*initCmd) Help() string {
	return `Writes a service to go on from: a proto with its topics, a table, handlers, a test, a page. It builds, passes its test and is live in the browser:

  freshet init tasks
  cd tasks && make run

It needs Go, and Node.js for the page.`
}

// ourModule is the path of Freshet's module.
const ourModule = "github.com/freshet-dev/freshet"

// modulePath is what a Go module may be named, as far as it is told without asking
// the go command, which says the rest.
var modulePath = regexp.MustCompile(`^[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$`)

// Run writes the service, and resolves its dependencies.
func (c *initCmd) Run(ctx context.Context, to streams) error {
	module := c.Module
	if module == "" {
		module = "example.com/" + filepath.Base(c.Dir)
	}
	if !modulePath.MatchString(module) {
		return fmt.Errorf("--module: %q can't be the path of a Go module: use one as example.com/tasks", module)
	}
	edit := []string{"mod", "edit", "-tool=google.golang.org/protobuf/cmd/protoc-gen-go", "-tool=connectrpc.com/connect/cmd/protoc-gen-connect-go"}
	if c.Replace != "" {
		edit = append(edit, "-require="+ourModule+"@v0.0.0", "-replace="+ourModule+"="+c.Replace)
	} else {
		version, err := released()
		if err != nil {
			return err
		}
		edit = append(edit, "-require="+ourModule+"@"+version)
	}
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("there is no go command in PATH: install Go 1.26 or later (https://go.dev/dl), then run this again")
	}
	if err := scaffold.Write(c.Dir, module); err != nil {
		return err
	}
	fmt.Fprintln(to.err, "Resolving the dependencies of", module, "…")
	for _, args := range [][]string{{"mod", "init", module}, edit, {"mod", "tidy"}} {
		if err := runIn(ctx, c.Dir, "go", args...); err != nil {
			return fmt.Errorf("%w\nThe files are in %s; what failed can be run again there, once what it says is mended", err, c.Dir)
		}
	}
	if c.Replace != "" {
		if err := c.packPage(ctx); err != nil {
			fmt.Fprintf(to.err, "The page's packages couldn't be made, the rest works without: %v\n", err)
		}
	}
	_, err := fmt.Fprintf(to.out, "%s is there. Run it:\n\n  cd %s\n  make run\n", module, c.Dir)
	return err
}

// released is the version of this program, if others can get it.
func released() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != ourModule || info.Main.Version == "" || strings.Contains(info.Main.Version, "(devel)") || strings.Contains(info.Main.Version, "+") {
		return "", errors.New("this program was built from a clone that is no released version: name the clone by --replace")
	}
	return info.Main.Version, nil
}

// packPage packs the clone's npm package into the service, and has the page take it.
func (c *initCmd) packPage(ctx context.Context) error {
	packages := filepath.Join(c.Dir, "third_party")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		return err
	}
	if err := runIn(ctx, filepath.Join(c.Replace, "web"), "npm", "pack", "--silent", "-w", "@freshet/query", "--pack-destination", packages); err != nil {
		return err
	}
	made, err := filepath.Glob(filepath.Join(packages, "freshet-query-*.tgz"))
	if err != nil || len(made) != 1 {
		return fmt.Errorf("npm pack has made %d packages in %s, not one", len(made), packages)
	}
	return runIn(ctx, filepath.Join(c.Dir, "web"), "npm", "pkg", "set", "dependencies.@freshet/query=file:../third_party/"+filepath.Base(made[0]))
}

// runIn runs a program in a folder. Its error has what the program said.
func runIn(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}
