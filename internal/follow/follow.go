// Package follow keeps what files say in force: it reads them again and again, and
// whatever happens to them, the last content that could be used stays.
//
// Files are read, not asked for their time: a volume of Kubernetes swaps links. A
// change counts when two looks have seen the same, so that nothing half written does.
package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Interval is how often files are looked at. So a change counts within two of them.
const Interval = 250 * time.Millisecond

// maxBytes bounds a file. One that has more is refused.
const maxBytes = 1 << 20

// Config of Files. Paths and Parse are required.
type Config[T any] struct {
	// Paths are the files, which count together: a certificate and its key.
	Paths []string
	// Parse makes what they say of what is in them, in the order of Paths. Its errors
	// are remembered: what was refused isn't parsed again until it is another.
	Parse func(texts [][]byte) (*T, error)
	// Tell is called when there is news, and whenever somebody has called Reload: with
	// why the files can't be used (once, as long as the reason is the same), or with
	// nil, for what is in force is in the files. changed says that it was something
	// else before. It is called with no lock held, by Run and Reload alone. Nil: nobody
	// is told.
	Tell func(ctx context.Context, changed bool, err error)
}

// Files are followed once Run runs. Use Open. All methods are safe for concurrent use.
type Files[T any] struct {
	cfg     Config[T]
	current atomic.Pointer[T]
	stale   atomic.Bool

	mu      sync.Mutex // held for a whole look, so that none puts in force what is older; guards what follows
	texts   [][]byte   // of what is in force
	seen    [][]byte   // by the last look of Run's
	refused [][]byte   // what Parse refused last; nil: nothing
	why     error      // its reason
	told    string     // the error of the last look; "": all was well
}

// Open reads files, which have to be right. The error is Parse's, or says why they
// can't be read, with the path.
func Open[T any](cfg Config[T]) (*Files[T], error) {
	f := &Files[T]{cfg: cfg}
	if changed, _, err := f.look(true); !changed {
		return nil, err
	}
	return f, nil
}

// Current is what is in force. It is another pointer when it is something else.
func (f *Files[T]) Current() *T { return f.current.Load() }

// Staleness is 1 while the files can't be used, and what they said before is in
// force; otherwise 0. It is for a gauge.
func (f *Files[T]) Staleness() float64 {
	if f.stale.Load() {
		return 1
	}
	return 0
}

// Run follows the files until ctx ends. It returns nil.
func (f *Files[T]) Run(ctx context.Context) error {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if changed, news, err := f.look(false); news {
			f.tell(ctx, changed, err)
		}
	}
}

// Reload reads the files at once, as SIGHUP asks for. The error, which is told too,
// is one of Open's: then what was in force stays.
func (f *Files[T]) Reload(ctx context.Context) error {
	changed, _, err := f.look(true)
	f.tell(ctx, changed, err)
	return err
}

func (f *Files[T]) tell(ctx context.Context, changed bool, err error) {
	if f.cfg.Tell != nil {
		f.cfg.Tell(ctx, changed, err)
	}
}

// look reads the files, and puts in force what is in them; at once, or when it is
// what the last look has seen. news says that the outcome is another than before.
func (f *Files[T]) look(atOnce bool) (changed, news bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	texts, err := f.read()
	if err == nil && !atOnce && !same(texts, f.seen) {
		f.seen = texts
		return false, false, nil // perhaps somebody is still writing
	}
	switch {
	case err != nil, f.texts != nil && same(texts, f.texts):
	case f.refused != nil && same(texts, f.refused):
		err = f.why
	default:
		changed, err = f.take(texts)
	}
	said := ""
	if err != nil {
		said = err.Error()
	}
	news = changed || said != f.told
	f.told = said
	f.stale.Store(err != nil)
	return changed, news, err
}

// take parses texts and puts them in force. The caller holds mu.
func (f *Files[T]) take(texts [][]byte) (changed bool, _ error) {
	value, err := f.cfg.Parse(texts)
	if err != nil {
		f.refused, f.why = texts, err
		return false, err
	}
	f.texts, f.refused, f.why = texts, nil, nil
	f.current.Store(value)
	return true, nil
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// read returns what is in the files.
func (f *Files[T]) read() ([][]byte, error) {
	texts := make([][]byte, len(f.cfg.Paths))
	errs := make([]error, len(texts))
	for i, path := range f.cfg.Paths {
		texts[i], errs[i] = readFile(path)
	}
	return texts, errors.Join(errs...)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxBytes)
	}
	return text, nil
}
