package grants

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/internal/follow"
)

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
	files    *follow.Files[Set]
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
	var err error
	f.files, err = follow.Open(follow.Config[Set]{
		Paths: []string{path},
		Parse: func(texts [][]byte) (*Set, error) { return Parse(path, texts[0]) },
		Tell:  f.tell,
	})
	if err != nil {
		return nil, err
	}
	if options.Registerer == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "freshet_grants_stale", Help: "1 while the grants file can't be used, and the last good one is in force.",
	}, f.files.Staleness)} {
		if err := options.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("grants: register metrics: %w", err)
		}
	}
	return f, nil
}

// Authorize is that of the Set in force.
func (f *File) Authorize(ctx context.Context, caller Caller, action Action, topics []string) error {
	return f.files.Current().Authorize(ctx, caller, action, topics)
}

// AuthorizeAdmin is that of the Set in force.
func (f *File) AuthorizeAdmin(ctx context.Context, caller Caller) error {
	return f.files.Current().AuthorizeAdmin(ctx, caller)
}

// Run follows the file until ctx ends. It returns nil.
func (f *File) Run(ctx context.Context) error { return f.files.Run(ctx) }

// Reload reads the file at once, as SIGHUP asks for. The error, which is logged
// too, is that of Open: then the last good one stays.
func (f *File) Reload(ctx context.Context) error { return f.files.Reload(ctx) }

// tell says what has come of a look at the file.
func (f *File) tell(ctx context.Context, changed bool, err error) {
	switch {
	case err != nil:
		f.reloads.WithLabelValues("failed").Inc()
		f.logger.ErrorContext(ctx, "the grants file can't be used: the last good one stays in force", "file", f.path, "error", err)
	case !changed:
		f.logger.InfoContext(ctx, "the grants file is what is in force", "file", f.path)
	default:
		f.reloads.WithLabelValues("ok").Inc()
		f.logger.InfoContext(ctx, "other grants are in force", "file", f.path, "rules", len(f.files.Current().rules))
		if f.onChange != nil {
			f.onChange()
		}
	}
}
