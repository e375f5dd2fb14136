package depths

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// The judge's own test: what it lets pass, and what it doesn't.
func TestHistory_judge(t *testing.T) {
	at := func(position uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: position} }
	list := func(atLeast, stamp uint64, ids ...string) answer {
		a := answer{conversation: "7", stamp: at(stamp), ids: ids, who: "reader"}
		if atLeast > 0 {
			a.atLeast = at(atLeast)
		}
		return a
	}
	strong := func(h *history, ids ...string) {
		a := list(0, 5, ids...)
		a.asked = h.asking()
		h.answered(a)
	}
	for name, c := range map[string]struct {
		record func(h *history)
		want   string // in the only thing that is wrong; empty: nothing is
	}{
		"read back": {func(h *history) {
			h.created("a", "7", at(10))
			h.answered(list(10, 10, "a"))
		}, ""},
		"held before it is told": {func(h *history) {
			h.created("a", "7", at(10))
			h.answered(list(0, 5, "a"))
		}, ""},
		"not there yet": {func(h *history) {
			h.created("a", "7", at(10))
			h.answered(list(5, 9))
		}, ""},
		"another conversation": {func(h *history) {
			h.created("a", "8", at(10))
			h.answered(list(0, 20))
		}, ""},
		"being deleted": {func(h *history) {
			h.created("a", "7", at(10))
			h.deleting("a", "7")
			h.answered(list(10, 10))
		}, ""},
		"made later than it was read": {func(h *history) {
			h.answered(list(0, 20))
			h.created("a", "7", at(21))
		}, ""},
		"missing": {func(h *history) {
			h.created("a", "7", at(10))
			h.answered(list(10, 10))
		}, "lacks a"},
		"missing before it is deleted": {func(h *history) {
			h.created("a", "7", at(10))
			h.answered(list(10, 10))
			h.deleting("a", "7")
			h.deleted("a", "7", at(12))
		}, "lacks a"},
		"a stamp that promises too much": {func(h *history) {
			h.answered(list(0, 20))
			h.created("a", "7", at(20))
		}, "lacks a"},
		"still there": {func(h *history) {
			h.created("a", "7", at(10))
			h.deleting("a", "7")
			h.deleted("a", "7", at(12))
			h.answered(list(12, 12, "a"))
		}, "holds a, deleted"},
		"below at-least": {func(h *history) { h.answered(list(10, 9)) }, "below what was asked for"},
		"no stamp":       {func(h *history) { h.answered(answer{conversation: "7", who: "reader"}) }, "no stamp"},
		"strong": {func(h *history) {
			h.created("a", "7", at(10))
			strong(h, "a")
		}, ""},
		"strong, and too old": {func(h *history) {
			h.created("a", "7", at(10))
			strong(h)
		}, "the read is strong and it had been made"},
		"strong, and shows what is gone": {func(h *history) {
			h.created("a", "7", at(10))
			h.deleting("a", "7")
			h.deleted("a", "7", at(12))
			strong(h, "a")
		}, "the read is strong and it had been deleted"},
		"made beside a strong read": {func(h *history) {
			a := list(0, 5)
			a.asked = h.asking()
			h.created("a", "7", at(10))
			h.answered(a)
		}, ""},
		"rolled back": {func(h *history) {
			h.never("a", "7")
			h.answered(list(0, 20, "a"))
		}, "rolled back"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			c.record(h)
			wrong := h.judge()
			if c.want == "" {
				require.Empty(t, wrong)
				return
			}
			require.Len(t, wrong, 1)
			require.Contains(t, wrong[0], c.want)
		})
	}
}
