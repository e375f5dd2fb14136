package main

import (
	"cmp"
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
	"github.com/freshet-dev/freshet/store/setup"
)

type initCmd struct {
	Dir     string `arg:"" type:"path" help:"Folder of the new service; it must be empty, or not exist."`
	Name    string `placeholder:"NAME" help:"The service's: of its proto package, its replication slot and its publication. Unset: made of the folder's name. Letters a to z, digits and _; freshet, google and buf are taken."`
	Module  string `placeholder:"PATH" help:"Path of its Go module. Unset: example.com/ and the folder's name."`
	Replace string `placeholder:"DIR" type:"existingdir" help:"A clone of Freshet to build against. Unset: the version of this program."`
}

// Help is printed by `freshet init --help`.
func (*initCmd) Help() string {
	return `Writes a service to go on from: a proto with its topics, a table, handlers, a test, a page. It builds, passes its test and is live in the browser:

  freshet init tasks
  cd tasks && make run

Its proto package, replication slot and publication are named after the folder, or --name: two services on one PostgreSQL need two names.

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
	name, err := scaffold.Name(cmp.Or(c.Name, filepath.Base(c.Dir)))
	if err == nil && len(name) > setup.MaxSlotName {
		err = fmt.Errorf("%q is longer than the %d characters that a replication slot's name may have", name, setup.MaxSlotName)
	}
	if err != nil {
		return fmt.Errorf("%w: give it one by --name", err)
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
	if err := scaffold.Write(c.Dir, module, name); err != nil {
		return err
	}
	fmt.Fprintln(to.err, "Resolving the dependencies of", module, "…")
	for _, args := range [][]string{{"mod", "init", module}, edit, {"mod", "tidy"}} {
		if err := runIn(ctx, c.Dir, "go", args...); err != nil {
			return fmt.Errorf("%w\nThe files are in %s; what failed can be run again there, once what it says is mended", err, c.Dir)
		}
	}
	if err := c.copyOptions(ctx); err != nil {
		return err
	}
	if c.Replace != "" {
		if err := c.packPage(ctx); err != nil {
			fmt.Fprintf(to.err, "The page's packages couldn't be made, the rest works without: %v\n", err)
		}
	}
	if given := cmp.Or(c.Name, filepath.Base(c.Dir)); given != name {
		fmt.Fprintf(to.out, "Of %q is made the name %s, of the replication slot and the publication.\n", given, name)
	}
	_, err = fmt.Fprintf(to.out, "%s is there. Run it:\n\n  cd %s\n  make run\n", module, shellWord(c.Dir))
	return err
}

// plainWord is what every shell takes for one word as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// shellWord is a text as one word of a command, in quotes where it needs them.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// released is the version of this program, if others can get it.
func released() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != ourModule || info.Main.Version == "" || strings.Contains(info.Main.Version, "(devel)") || strings.Contains(info.Main.Version, "+") {
		return "", errors.New("this program was built from a clone that is no released version: name the clone by --replace")
	}
	return info.Main.Version, nil
}

// copyOptions puts Freshet's options where the service's buf.yaml has them, so that buf
// builds its protos before anything has been generated.
func (c *initCmd) copyOptions(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", ourModule)
	cmd.Dir = c.Dir
	module, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("where is %s: %w", ourModule, err)
	}
	const file = "freshet/v1/options.proto"
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "proto", file))
	if err != nil {
		return err
	}
	to := filepath.Join(c.Dir, "third_party", file)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644) //nolint:gosec // a source file
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
