package check

import (
	"fmt"
	"slices"
	"strings"
)

// Exercise is something that a server may get wrong. A report says how often a
// run asked for it, and what it didn't ask for.
type Exercise string

// longList isn't an exercise: a list had more pages than the checker reads.
const longList Exercise = "a list longer than what is read of it"

// otherTopics is for services with a topic that is ByRow.
const otherTopics Exercise = "a stream of the topics of another answer"

// anotherCaller is for services with a topic OfCaller.
const anotherCaller Exercise = "a client that another caller takes over"

// onReplica is counted by the server.
const onReplica Exercise = "reads that a replica served"

// asked is an exercise, and what a run must have for it.
type asked struct {
	Exercise
	needs need
}

// exercises are all that there are of a service.
func (s *service) exercises() []asked {
	var all []asked
	list := func(needs need, names ...Exercise) {
		for _, name := range names {
			if e := (asked{name, needs}); !slices.Contains(all, e) { // an RPC may be two of them
				all = append(all, e)
			}
		}
	}
	list(anything, "stream by GET", "stream by POST", "stream by Watch", "catch-up by GET", "catch-up by POST", "catch-up by Watch",
		"since_by_topic", "since of another epoch", "a notice in several frames")
	for _, t := range s.Topics {
		list(anything, s.topics[t.Kind].notice)
	}
	list(database, s.noticeOf("nobody.s"))
	for _, t := range s.Topics {
		list(anything, s.topics[t.Kind].reading)
	}
	if s.kinds&byRow != 0 {
		list(anything, otherTopics)
	}
	if s.kinds.has(OfCaller) {
		list(anything, anotherCaller)
	}
	list(anything, "lists in several pages")
	list(anything, protocolNames[byPost], protocolNames[byGet], "304", protocolNames[byGRPCWeb], protocolNames[byJSON])
	for _, m := range []Mutation{s.Create, s.Update, s.Delete} {
		if m.open != nil {
			list(anything, m.name)
		}
	}
	if s.Create.open != nil {
		list(anything, "Freshet-Topics")
	}
	list(database, "SELECT on the primary", "INSERT", "COPY", "UPDATE", "UPDATE that moves a row", "DELETE", "ROLLBACK", "pg_logical_emit_message")
	list(stage, "TRUNCATE", "a change while the table is out of its publication")
	list(standby, onReplica)
	return all
}

// Exercised is how often something was asked for.
type Exercised struct {
	Exercise
	N int
	// Needs is what was missing for it, for people: flags of freshet check, and the
	// field of Config. Empty: nothing, it just didn't happen.
	Needs string
}

func (r *run) exercised() []Exercised {
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	var all []Exercised
	for _, e := range r.service.exercises() {
		done := Exercised{Exercise: e.Exercise, N: r.rec.done[e.Exercise]}
		if done.N == 0 && !r.cfg.has(e.needs) {
			done.Needs = e.needs.given()
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
