package depths

import (
	"fmt"
	"slices"
	"sync"

	"github.com/freshet-dev/freshet"
)

// history is what the clients of one run saw, in one order: moments count its
// entries. It is safe for concurrent use until it is judged.
type history struct {
	mu      sync.Mutex
	moment  int
	rows    map[string]*row // by id
	answers []answer
}

// row is one message, as its writer knows it.
type row struct {
	conversation string
	created      freshet.Revision // the stamp of the call that made it; zero: not known
	deleted      freshet.Revision // of the call that deleted it; zero: not known, or none
	never        bool             // it was rolled back

	// Moments: after the call that made it, before and after the one that deleted
	// it. Zero: none.
	made, deleting, gone int
}

// answer is one list, as its reader got it.
type answer struct {
	conversation string
	atLeast      freshet.Revision // asked for; zero: nothing
	stamp        freshet.Revision
	ids          []string
	who          string

	asked  int // the moment before a strong read; zero: it was none
	moment int // at which the answer was there
}

func newHistory() *history { return &history{rows: map[string]*row{}} }

func (h *history) note(id, conversation string, change func(r *row, moment int)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moment++
	r := h.rows[id]
	if r == nil {
		r = &row{conversation: conversation}
		h.rows[id] = r
	}
	change(r, h.moment)
}

func (h *history) created(id, conversation string, at freshet.Revision) {
	h.note(id, conversation, func(r *row, moment int) { r.created, r.made = at, moment })
}

func (h *history) deleting(id, conversation string) {
	h.note(id, conversation, func(r *row, moment int) { r.deleting = moment })
}

func (h *history) deleted(id, conversation string, at freshet.Revision) {
	h.note(id, conversation, func(r *row, moment int) { r.deleted, r.gone = at, moment })
}

func (h *history) never(id, conversation string) {
	h.note(id, conversation, func(r *row, _ int) { r.never = true })
}

// asking returns the moment before a strong read.
func (h *history) asking() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moment++
	return h.moment
}

func (h *history) answered(a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moment++
	a.moment = h.moment
	h.answers = append(h.answers, a)
}

// judge returns what breaks a guarantee, in words:
//
//   - an answer reaches what was asked for (G1, G5), by its stamp;
//   - it holds every row of its conversation that was made at or below its
//     stamp, unless its deletion had begun by then; and none that was deleted at
//     or below it (G6; with the rule above, G5);
//   - one that asked for nothing, a strong read, has seen every write that had
//     returned before;
//   - no answer holds what was rolled back.
func (h *history) judge() []string {
	var wrong []string
	for _, a := range h.answers {
		say := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("%s, conversation %s, at-least %v, stamped %v: ", a.who, a.conversation, a.atLeast, a.stamp)+fmt.Sprintf(format, args...))
		}
		switch {
		case a.stamp.IsZero():
			say("no stamp")
			continue
		case a.stamp.Less(a.atLeast):
			say("below what was asked for")
		}
		for id, r := range h.rows {
			if r.conversation != a.conversation {
				continue
			}
			held := slices.Contains(a.ids, id)
			there := r.deleting == 0 || r.deleting > a.moment
			switch {
			case held && r.never:
				say("holds %s, which was rolled back", id)
			case held && !r.deleted.IsZero() && !a.stamp.Less(r.deleted):
				say("holds %s, deleted at %v", id, r.deleted)
			case !held && there && !r.created.IsZero() && !a.stamp.Less(r.created):
				say("lacks %s, made at %v", id, r.created)
			case held && r.gone != 0 && r.gone < a.asked:
				say("holds %s, though the read is strong and it had been deleted", id)
			case !held && there && r.made != 0 && r.made < a.asked:
				say("lacks %s, though the read is strong and it had been made", id)
			}
		}
	}
	return wrong
}
