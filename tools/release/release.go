package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// release says what to build.
type release struct {
	root, out string
	main      string   // the program's package
	targets   []string // GOOS/GOARCH
	dirty     bool     // a work tree with changes will do
	packages  bool     // npm's too
	sbom      []string // the command that writes a program's bill of materials; none: there is no such file, nor npm's
	log       io.Writer
}

// name is the program's.
const name = "freshet"

// files are those of the repository that are in each archive.
var files = []string{"LICENSE", "README.md", "CHANGELOG.md"}

var errDirty = errors.New("there are changes that are not committed: a release is what a commit says (-dirty to try it)")

// build leaves the release in r.out, which it empties before. It needs the root's
// module, Git, and the page, if that is to be in the program.
func (r release) build(ctx context.Context) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil { //nolint:gosec // to be published
		return err
	}
	work, err := os.MkdirTemp("", "freshet-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()

	docs, err := r.documents(ctx, work)
	if err != nil {
		return err
	}
	var version string
	for _, target := range r.targets {
		if version, err = r.one(ctx, work, target, docs); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	if r.packages {
		if err := r.npm(ctx, version); err != nil {
			return err
		}
		if len(r.sbom) > 0 {
			if err := r.bills(ctx, version); err != nil {
				return err
			}
		}
	}
	return r.sums()
}

// documents returns what the program itself writes: manual pages and completions.
func (r release) documents(ctx context.Context, work string) ([]entry, error) {
	own := filepath.Join(work, "own", name)
	if err := r.compile(ctx, runtime.GOOS+"/"+runtime.GOARCH, own); err != nil {
		return nil, err
	}
	man := filepath.Join(work, "man")
	if _, err := r.run(ctx, nil, own, "man", man); err != nil {
		return nil, err
	}
	pages, err := filepath.Glob(filepath.Join(man, "*.1"))
	if err != nil {
		return nil, err
	}
	docs := make([]entry, 0, len(pages)+3)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		docs = append(docs, entry{name: "man/man1/" + filepath.Base(page), text: text})
	}
	for _, shell := range []string{"bash", "fish", "zsh"} {
		script, err := r.run(ctx, nil, own, "completion", shell)
		if err != nil {
			return nil, err
		}
		docs = append(docs, entry{name: "completions/" + name + "." + shell, text: script})
	}
	return docs, nil
}

// one builds a system's archive, and returns the version that is in it.
func (r release) one(ctx context.Context, work, target string, docs []entry) (version string, err error) {
	program := filepath.Join(work, strings.ReplaceAll(target, "/", "_"), name)
	if err := r.compile(ctx, target, program); err != nil {
		return "", err
	}
	version, at, err := r.stamps(program)
	if err != nil {
		return "", err
	}
	folder := strings.Join([]string{name, strings.TrimPrefix(version, "v"), strings.ReplaceAll(target, "/", "_")}, "_")
	text, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	contents := append(slices.Clone(docs), entry{name: name, text: text, program: true})
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(r.root, file))
		if err != nil {
			return "", err
		}
		contents = append(contents, entry{name: file, text: text})
	}
	slices.SortFunc(contents, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	archive, err := tarball(folder, contents, at)
	if err != nil {
		return "", err
	}
	if err := r.write(folder+".tar.gz", archive); err != nil {
		return "", err
	}
	if len(r.sbom) == 0 {
		return version, nil
	}
	bill, err := r.run(ctx, nil, r.sbom[0], append(slices.Clone(r.sbom[1:]), "-version", version, program)...)
	if err != nil {
		return "", err
	}
	return version, r.write(folder+".cdx.json", bill)
}

// compile builds the program for a system. -trimpath takes folders out of it,
// -buildvcs=true puts the commit in.
func (r release) compile(ctx context.Context, target, program string) error {
	goos, goarch, ok := strings.Cut(target, "/")
	if !ok {
		return errors.New("want a system and a processor, as linux/amd64")
	}
	env := []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch, "GOFLAGS=-mod=readonly", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off"}
	_, err := r.run(ctx, env, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", program, r.main)
	return err
}

// stamps are what the toolchain has written into a program: its version, and
// when its commit was made.
func (r release) stamps(program string) (version string, at time.Time, err error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", at, err
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.time":
			at, err = time.Parse(time.RFC3339, setting.Value)
		case "vcs.modified":
			if setting.Value == "true" && !r.dirty {
				return "", at, errDirty
			}
		}
	}
	if err == nil && at.IsZero() {
		err = errors.New("the toolchain found no commit: a release is built in a clone, with Git")
	}
	return info.Main.Version, at, err
}

// npm packs the packages, which are of the program's version.
func (r release) npm(ctx context.Context, version string) error {
	folders, err := filepath.Glob(filepath.Join(r.root, "web/packages/*/package.json"))
	if err != nil {
		return err
	}
	out, err := filepath.Abs(r.out)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := sameVersion(folder, version); err != nil {
			return err
		}
		if err := readable(filepath.Dir(folder)); err != nil {
			return err
		}
		// They are built already: by its own scripts npm would print more than the name.
		if _, err := r.run(ctx, nil, "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", out, filepath.Dir(folder)); err != nil {
			return err
		}
	}
	return nil
}

// readable lets everybody read a package's files, as npm packs them with their
// modes, which are of the umask of whoever has cloned and built them.
func readable(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == "node_modules":
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode()&0o100|0o644) //nolint:gosec // to be published
	})
}

// sameVersion refuses packages of another version than the tag. Between tags, the
// version is one that nobody asks npm for.
func sameVersion(manifest, version string) error {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	var of struct{ Version string }
	if err := json.Unmarshal(text, &of); err != nil {
		return fmt.Errorf("%s: %w", manifest, err)
	}
	between := module.IsPseudoVersion(strings.TrimSuffix(version, "+dirty")) || version == "(devel)"
	if !between && "v"+of.Version != version {
		return fmt.Errorf("%s says %s, and the tag %s: change one of them", manifest, of.Version, version)
	}
	return nil
}

// sums writes the checksums, as sha256sum does and checks.
func (r release) sums() error {
	names, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(r.out, name.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(text), name.Name())
	}
	return r.write("SHA256SUMS", list.Bytes())
}

func (r release) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), text, 0o644) //nolint:gosec // to be published
}

// run runs a command in the repository, and returns what it has printed.
func (r release) run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	fmt.Fprintln(r.log, strings.Join(append(append(env, name), args...), " "))
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the commands above
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, r.log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), nil
}
