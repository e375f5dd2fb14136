package wal_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// watchful is a sink that notes, for each step of the frontier, whether the
// source was in quarantine.
type watchful struct {
	*sink

	wmu   sync.Mutex // guards what follows
	held  bool
	steps []watchedStep
}

type watchedStep struct {
	rev  freshet.Revision
	held bool // then, or all topics were told in that step
}

func (w *watchful) Quarantine(topics []freshet.Pattern) {
	w.sink.Quarantine(topics)
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.held = len(topics) > 0
}

func (w *watchful) step(rev freshet.Revision, told bool) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.steps = append(w.steps, watchedStep{rev, w.held || told})
}

func (w *watchful) Publish(c freshet.Commit) {
	w.step(c.Revision, len(c.Floors) > 0) // before anybody can have waited for it
	w.sink.Publish(c)
}

func (w *watchful) Advance(rev freshet.Revision) {
	w.step(rev, false)
	w.sink.Advance(rev)
}

// heldAt reports whether the source was in quarantine when the frontier reached
// rev; begunBy, whether it was at some time from before on until then.
func (w *watchful) heldAt(rev freshet.Revision) bool {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	return w.steps[w.reached(rev)].held
}

func (w *watchful) begunBy(before, rev freshet.Revision) bool {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	return slices.ContainsFunc(w.steps[:w.reached(rev)+1], func(s watchedStep) bool { return s.held && before.Less(s.rev) })
}

// reached returns the first step that reached rev. The caller holds wmu.
func (w *watchful) reached(rev freshet.Revision) int {
	return slices.IndexFunc(w.steps, func(s watchedStep) bool { return rev.Compare(s.rev) <= 0 })
}

// everyMajor runs a test on a server of each major version that there is: that a
// publication is missing is an error up to 17, and a warning from 18 on.
func everyMajor(t *testing.T, test func(t *testing.T, server *testkit.Server, major int)) {
	for _, major := range testkit.Majors(t) {
		t.Run(fmt.Sprint("PostgreSQL ", major), func(t *testing.T) {
			t.Parallel()
			test(t, testkit.NewServerOf(t, major, map[string]string{"fsync": "off", "log_min_messages": "panic"}), major)
		})
	}
}
