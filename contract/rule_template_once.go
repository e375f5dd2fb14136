package contract

// templateOnce: a template that stands twice in one option is a slip, most
// likely of a field's name. (Two messages may declare one template for their
// common table.)
var templateOnce = rule{"template-once", func(s *schema, report report) {
	var last *element
	var seen map[string]bool
	s.eachTemplate(func(e *element, t *templateDecl) {
		if e != last {
			last, seen = e, make(map[string]bool)
		}
		key := t.option + " " + t.text
		if seen[key] {
			report(e, t.at, "%s stands there twice", t.describe())
		}
		seen[key] = true
	})
}}
