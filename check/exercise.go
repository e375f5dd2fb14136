package check

import (
	"fmt"
	"strings"
)

// Exercise is something that a server may get wrong. A report says how often a
// run asked for it, and what it didn't ask for.
type Exercise string

// longList isn't an exercise: a list had more pages than the checker reads.
const longList Exercise = "a list longer than what is read of it"

// exercises are all there are, with what a run must have for them.
var exercises = []struct {
	Exercise
	needs need
}{
	{"stream by GET", anything},
	{"stream by POST", anything},
	{"stream by Watch", anything},
	{"catch-up by GET", anything},
	{"catch-up by POST", anything},
	{"catch-up by Watch", anything},
	{"since_by_topic", anything},
	{"since of another epoch", anything},
	{"a notice in several frames", anything},
	{"notices of conversations/{conversation}/messages", anything},
	{"notices of conversations/{conversation}/messages/{id}", anything},
	{"notices of conversations/-/messages", anything},
	{"notices of messages", anything},
	{"notices of topics that SQL tells", database},
	{"ListMessages of a conversation", anything},
	{"ListMessages of all conversations", anything},
	{"GetMessage", anything},
	{"ListConversations", anything},
	{"lists in several pages", anything},
	{"Connect POST", anything},
	{"Connect GET", anything},
	{"304", anything},
	{"gRPC-Web", anything},
	{"JSON", anything},
	{"CreateMessage", anything},
	{"UpdateMessage", anything},
	{"DeleteMessage", anything},
	{"Freshet-Topics", anything},
	{"SELECT on the primary", database},
	{"INSERT", database},
	{"COPY", database},
	{"UPDATE", database},
	{"UPDATE that moves a row", database},
	{"DELETE", database},
	{"ROLLBACK", database},
	{"pg_logical_emit_message", database},
	{"TRUNCATE", stage},
	{"a change while the table is out of its publication", stage},
}

func methodOf(topic string) Exercise {
	switch {
	case topic == Conversations:
		return "ListConversations"
	case topic == AllMessages:
		return "ListMessages of all conversations"
	case isConversation(topic):
		return "ListMessages of a conversation"
	default:
		return "GetMessage"
	}
}

func noticeOf(topic string) Exercise {
	switch {
	case topic == Conversations:
		return "notices of messages"
	case topic == AllMessages:
		return "notices of conversations/-/messages"
	case isConversation(topic):
		return "notices of conversations/{conversation}/messages"
	case isOwn(topic):
		return "notices of topics that SQL tells"
	default:
		return "notices of conversations/{conversation}/messages/{id}"
	}
}

// Exercised is how often something was asked for.
type Exercised struct {
	Exercise
	N int
	// Needs is what was missing for it: --database-url, --serve; empty: nothing,
	// it just didn't happen.
	Needs string
}

func (r *run) exercised() []Exercised {
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	all := make([]Exercised, 0, len(exercises))
	for _, e := range exercises {
		done := Exercised{Exercise: e.Exercise, N: r.rec.done[e.Exercise]}
		switch {
		case done.N > 0:
		case e.needs == stage && r.cfg.Stage == nil:
			done.Needs = "--serve"
		case e.needs == database && r.cfg.Database == nil:
			done.Needs = "--database-url"
		}
		all = append(all, done)
	}
	return all
}

// exercisedText is a paragraph on what was asked for, and one on what wasn't.
func (r *Report) exercisedText() string {
	var done, not []string
	for _, e := range r.Exercised {
		switch {
		case e.N > 0:
			done = append(done, fmt.Sprintf("%s %d", e.Exercise, e.N))
		case e.Needs != "":
			not = append(not, fmt.Sprintf("%s (needs %s)", e.Exercise, e.Needs))
		default:
			not = append(not, string(e.Exercise))
		}
	}
	return "\n" + paragraph("exercised: ", done) + paragraph("not exercised: ", not)
}

// paragraph is a list in lines.
func paragraph(title string, list []string) string {
	if len(list) == 0 {
		list = []string{"nothing"}
	}
	const width = 100
	var b strings.Builder
	line := title
	for i, item := range list {
		if i < len(list)-1 {
			item += ","
		}
		if len(line)+len(item) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = "  "
		}
		line += item + " "
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}
