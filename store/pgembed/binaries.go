package pgembed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// binaries picks the installation that suits the cluster and makes it ready to run.
func (s *site) binaries(ctx context.Context, c Config) (Installation, error) {
	found, err := Find(ctx, c)
	if err != nil {
		return Installation{}, err
	}
	major, err := s.clusterMajor()
	if err != nil {
		return Installation{}, err
	}
	best := 0
	if major != 0 {
		// An upgrade of the system mustn't lock anybody out while the old version is still there.
		best = slices.IndexFunc(found, func(in Installation) bool { return in.Major == major })
	}
	if best < 0 {
		return Installation{}, &VersionError{Cluster: s.cluster, Major: major, Found: found}
	}
	return s.prepare(ctx, found[best])
}

// prepare sees to it that the account can run the installation: restored if it came from npm, and
// copied if it can't be restored in place or is in a folder that the account can't reach.
func (s *site) prepare(ctx context.Context, in Installation) (Installation, error) {
	var restoreErr error
	if in.npm {
		restoreErr = restoreNPM(filepath.Dir(in.BinDir))
	}
	runs, err := inspect(ctx, in.BinDir, s.as)
	if err == nil {
		return runs, nil // with the version that it says itself
	}
	if s.as == nil && restoreErr == nil || ctx.Err() != nil {
		return Installation{}, fmt.Errorf("%s: %w", in, err)
	}
	bin, err := s.copyOf(in)
	if err != nil {
		return Installation{}, err
	}
	runs, err = inspect(ctx, bin, s.as)
	if err != nil {
		return Installation{}, fmt.Errorf("copy of %s: %s: %w", in, bin, err)
	}
	return runs, nil
}

// copyOf returns the bin folder of a copy of the installation, made anew when the original has
// changed.
func (s *site) copyOf(in Installation) (string, error) {
	info, err := os.Stat(filepath.Join(in.BinDir, "postgres"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", in.BinDir, info.Size(), info.ModTime().UnixNano()))
	dest := filepath.Join(s.home, "binaries-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dest); errors.Is(err, fs.ErrNotExist) {
		others, _ := filepath.Glob(filepath.Join(s.home, "binaries-*")) // the pattern is well-formed
		for _, dir := range others {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
		if err := copyInstallation(in, dest); err != nil {
			return "", err
		}
	}
	if in.npm {
		if err := restoreNPM(dest); err != nil {
			return "", err
		}
	}
	return filepath.Join(dest, "bin"), nil
}
