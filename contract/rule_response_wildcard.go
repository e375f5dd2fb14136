package contract

// responseWildcard: whatever emits a topic of a response template emits its
// wildcard with it. An answer with too many elements is followed by the wildcard
// alone, and a source that leaves it out would not be heard.
var responseWildcard = rule{"response-wildcard", func(s *schema, report report) {
	for _, d := range s.methods {
		for _, t := range d.templates {
			if t.option != responseTopics || t.parsed == nil {
				continue
			}
			wildcard := t.parsed.wildcard(func(field int) bool {
				f, _, _ := resolveField(d.desc.Output(), t.parsed.fields[field])
				return f != nil && f.isRepeated()
			})
			if wildcard == t.text {
				continue
			}
			for _, missing := range s.withoutWildcard(t.parsed, wildcard, t.parsed.tokens(d.kinds(t))) {
				report(&d.element, t.at, "%s: an answer with too many elements is followed by %q, which %s doesn't emit along with %q; add %q to its topics",
					t.describe(), wildcard, missing.source.on.FullName(), missing.emitted.text, missing.wildcard)
			}
		}
	}
}}

// gap is a template of a source whose rows the wildcard doesn't tell.
type gap struct {
	source   *sourceDecl
	emitted  *templateDecl
	wildcard string // what the source lacks
}

// withoutWildcard returns what emits a topic of the read template, and not the
// wildcard's.
func (s *schema) withoutWildcard(read *template, wildcard string, tokens []token) (gaps []gap) {
	for _, src := range s.sources {
		for _, e := range src.templates {
			if e.parsed == nil || !overlap(tokens, e.parsed.tokens(nil)) {
				continue
			}
			if want := wildcardOf(read, wildcard, e.parsed); !s.has(src, want) {
				gaps = append(gaps, gap{src, e, want})
			}
		}
	}
	return gaps
}

// wildcardOf spells the wildcard by a source's columns. A wildcard without fields
// is one topic, whatever emits it. Else the two templates are held against each
// other segment by segment, which takes the same number of them, with paths at the
// same places: the values then are the same ones. Where that isn't so, no template
// of the source can be known to fit, and the wildcard as it stands is none of them.
func wildcardOf(read *template, wildcard string, emitted *template) string {
	parsed, err := parseTemplate(wildcard)
	if err != nil || parsed.fixed != "" || len(parsed.segments) != len(emitted.segments) {
		return wildcard
	}
	aligned := *emitted
	aligned.segments = append([]segment(nil), emitted.segments...)
	for i, w := range parsed.segments {
		if read.segments[i].rest != emitted.segments[i].rest {
			return wildcard
		}
		if w.isLiteral() && !read.segments[i].isLiteral() {
			aligned.segments[i] = w
		}
	}
	return aligned.String()
}

// has reports whether the table of src has the template. Several messages may
// declare topics of one table.
func (s *schema) has(src *sourceDecl, text string) bool {
	for _, other := range s.sources {
		if other.schema != src.schema || other.table != src.table {
			continue
		}
		for _, t := range other.templates {
			if t.text == text {
				return true
			}
		}
	}
	return false
}
