package contract

// fieldType: each field of a request or response template has a type with one text, the
// same as Postgres': string, bool or an integer; as a resource path, string.
var fieldType = rule{"field-type", func(s *schema, report report) {
	s.eachField(func(d *methodDecl, t *templateDecl, seg segment, f *field, missing bool, reason string) {
		switch {
		case missing || f != nil && f.claim != "": // a claim's is known when somebody calls
		case f == nil:
			report(&d.element, t.at, "%s: %s", t.describe(), reason)
		case seg.rest && f.kind != kindText:
			last := f.steps[len(f.steps)-1]
			report(&d.element, t.at, "%s: field %s is of type %s; {%s=**} takes a string",
				t.describe(), last.FullName(), last.Kind(), f.path)
		}
	})
}}
