package intercept

import (
	"context"
	"log/slog"
	"sync"
)

// writing says of methods that are declared as reads that they have written. Their calls
// are repeated, shared and answered by what is kept, and where the change is one of their
// own topics', each answer has all who follow it ask again. Each procedure is logged once.
type writing struct {
	logger *slog.Logger
	told   sync.Map // procedures
}

// found returns what the store is to call before a read's transaction commits that has
// written something.
func (w *writing) found(ctx context.Context, procedure string) func(xid uint64) {
	return func(uint64) {
		if _, told := w.told.LoadOrStore(procedure, true); told {
			return
		}
		w.logger.LogAttrs(ctx, slog.LevelWarn, "a read has written: its calls may be repeated, shared, or answered without running, and its own notice has it asked again; declare what it changes by `writes`, without NO_SIDE_EFFECTS (told once for each procedure)",
			slog.String("procedure", procedure))
	}
}
