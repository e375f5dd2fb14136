package contract

import (
	"slices"

	"github.com/freshet-dev/freshet/internal/presence"
)

// readOptional: no field that its proto declares `optional` takes all topics of a
// read with it. Such a request is answered, and nothing would ever tell that its answer
// has changed. A string without `optional` may be empty as well, but there nobody says
// that it is meant to be: nearly all reads are so, and a request decides.
var readOptional = rule{"read-optional", func(s *schema, report report) {
	for _, d := range s.methods {
		if name := d.withoutWhich(); name != "" {
			report(&d.element, d.atReads(), "without %s, which is optional, a request has no topics, and nothing would tell that its answer changes; add a topic without it, or drop `optional`, or say that it is required",
				name)
		}
	}
}}

// withoutWhich returns the field that is optional and that all templates over the
// request take; empty: there is none, or it can't be told.
func (d *methodDecl) withoutWhich() (name string) {
	var common map[string]bool // optional fields that all templates so far take
	for _, t := range d.templates {
		if t.option == responseTopics {
			continue // what the answer names comes on top of what the request does
		}
		if d.reads == nil || t.parsed == nil {
			return ""
		}
		taken := make(map[string]bool)
		for _, path := range t.parsed.fields {
			if f, _, _ := resolveField(d.desc.Input(), path); f != nil && f.isOptional() && (common == nil || common[path]) {
				taken[path] = true
			}
		}
		common = taken
	}
	for path := range common {
		if name == "" || path < name {
			name = path
		}
	}
	return name
}

// isOptional reports whether the field, or a message on the way to it, is declared to be
// left out.
func (f *field) isOptional() bool { return slices.ContainsFunc(f.steps, presence.IsOptional) }
