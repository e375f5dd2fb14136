package auth

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/freshet-dev/freshet/internal/follow"
)

// file is keys in a file, which is followed.
type file struct {
	*follow.Files[keySet]
}

func openFile(path string, logger *slog.Logger) (*file, error) {
	f := new(file)
	var err error
	f.Files, err = follow.Open(follow.Config[keySet]{
		Paths: []string{path},
		Parse: func(texts [][]byte) (*keySet, error) { return parseKeys(texts[0], true) },
		Tell: func(ctx context.Context, _ bool, err error) {
			if err != nil {
				logger.ErrorContext(ctx, "the keys that tokens are checked with can't be read again: those of before are kept", "file", path, "error", err)
				return
			}
			logger.InfoContext(ctx, "the keys that tokens are checked with were read again", "file", path, "keys", len(f.Current().keys))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("keys in %s: %w", path, err)
	}
	return f, nil
}

func (f *file) current() *keySet { return f.Current() }

func (f *file) find(_ context.Context, kid, alg string) ([]key, *keySet, error) {
	set := f.Current()
	return set.fitting(kid, alg), set, nil
}
