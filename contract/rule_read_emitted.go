package contract

import "strings"

// readEmitted: some source emits a topic of each read template. A read that no
// commit touches would look fresh for ever.
var readEmitted = rule{"read-emitted", func(s *schema, report report) {
	var all []string
	for _, d := range s.sources {
		for _, t := range d.templates {
			if t.parsed == nil {
				return // perhaps the very one; template-syntax says it
			}
			all = append(all, t.text)
		}
	}
	for _, d := range s.methods {
		for _, t := range d.templates {
			if t.option == "writes" || t.parsed == nil || s.emits(t.parsed.tokens(d.kinds(t))) {
				continue
			}
			if len(all) == 0 {
				report(&d.element, t.at, "%s: no message of its imports declares a (freshet.v1.source)", t.describe())
				continue
			}
			report(&d.element, t.at, "%s: no source emits such a topic; sources emit %s", t.describe(), strings.Join(all, ", "))
		}
	}
}}

// emits reports whether a source's templates have a topic in common with these
// tokens.
func (s *schema) emits(tokens []token) bool {
	for _, d := range s.sources {
		for _, t := range d.templates {
			if overlap(tokens, t.parsed.tokens(nil)) {
				return true
			}
		}
	}
	return false
}

// kinds returns the kinds of the template's fields; of one that does not
// resolve, kindAny.
func (d *methodDecl) kinds(t *templateDecl) []kind {
	list := make([]kind, len(t.parsed.fields))
	for i, path := range t.parsed.fields {
		if f, _, _ := resolveField(d.message(t), path); f != nil {
			list[i] = f.kind
		}
	}
	return list
}
