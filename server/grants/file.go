package grants

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookEvery is how often a file is looked at. A change counts when two looks have
// seen the same, so that nothing half written does.
const lookEvery = 250 * time.Millisecond

// Options of a File. The zero value is fine.
type Options struct {
	// OnChange is called after other grants are in force, with none of File's locks
	// held: for streams that were granted before. Nil: nobody is told.
	OnChange   func()
	Logger     *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: nobody counts
}

// File is a Set that follows a file. Whatever happens to that, the last Set that
// could be compiled stays in force.
type File struct {
	path     string
	onChange func()
	logger   *slog.Logger
	reloads  *prometheus.CounterVec

	set   atomic.Pointer[Set]
	stale atomic.Bool // the file isn't what is in force, and can't be

	mu     sync.Mutex // guards the fields below
	text   []byte     // of what is in force
	judged []byte     // the text that was refused last
	said   string     // the error that was logged last; "": none since all was well
}

// Open reads a file. The error is a *FileError, or why it can't be read.
func Open(path string, options Options) (*File, error) {
	f := &File{
		path: path, onChange: options.OnChange, logger: cmp.Or(options.Logger, slog.Default()),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_grants_reloads_total", Help: "Times that a changed grants file was read, by result: ok, or failed and the last good one stays.",
		}, []string{"result"}),
	}
	for _, result := range []string{"ok", "failed"} {
		f.reloads.WithLabelValues(result) // shown from the start
	}
	text, err := f.read()
	if err != nil {
		return nil, err
	}
	set, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	f.text = text
	f.set.Store(set)
	if options.Registerer == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "freshet_grants_stale", Help: "1 while the grants file can't be used, and the last good one is in force.",
	}, func() float64 {
		if f.stale.Load() {
			return 1
		}
		return 0
	})} {
		if err := options.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("grants: register metrics: %w", err)
		}
	}
	return f, nil
}

// Authorize is that of the Set in force.
func (f *File) Authorize(ctx context.Context, caller Caller, action Action, topics []string) error {
	return f.set.Load().Authorize(ctx, caller, action, topics)
}

// Run follows the file until ctx ends. It returns nil.
func (f *File) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		text, err := f.read()
		if err == nil && !bytes.Equal(text, last) {
			last = text
			continue // perhaps somebody is still writing
		}
		_ = f.take(ctx, text, err) // it is logged
	}
}

// Reload reads the file at once, as SIGHUP asks for. The error, which is logged
// too, is that of Open: then the last good one stays.
func (f *File) Reload(ctx context.Context) error {
	text, err := f.read()
	f.mu.Lock()
	f.judged, f.said = nil, "" // whoever asks is told again
	f.mu.Unlock()
	return f.take(ctx, text, err)
}

// take puts a text in force, unless it is, or was refused, already.
func (f *File) take(ctx context.Context, text []byte, err error) error {
	changed, err := f.judge(ctx, text, err)
	if changed && f.onChange != nil {
		f.onChange()
	}
	return err
}

func (f *File) judge(ctx context.Context, text []byte, err error) (changed bool, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && bytes.Equal(text, f.text) {
		if f.stale.Swap(false) {
			f.logger.InfoContext(ctx, "the grants file is again what is in force", "file", f.path)
		}
		f.judged, f.said = nil, ""
		return false, nil
	}
	if err == nil && f.judged != nil && bytes.Equal(text, f.judged) {
		return false, nil
	}
	var set *Set
	if err == nil {
		f.judged = text
		set, err = Parse(f.path, text)
	}
	if err != nil {
		f.stale.Store(true)
		if said := err.Error(); said != f.said { // a file that is gone is so at each look
			f.said = said
			f.reloads.WithLabelValues("failed").Inc()
			f.logger.ErrorContext(ctx, "the grants file can't be used: the last good one stays in force", "file", f.path, "error", err)
		}
		return false, err
	}
	f.text, f.judged, f.said = text, nil, ""
	f.set.Store(set)
	f.stale.Store(false)
	f.reloads.WithLabelValues("ok").Inc()
	f.logger.InfoContext(ctx, "other grants are in force", "file", f.path, "rules", len(set.rules))
	return true, nil
}

// read returns the file's text.
func (f *File) read() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("grants: %s is not a regular file", f.path)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	return text, nil
}
