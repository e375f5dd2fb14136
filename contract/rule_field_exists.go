package contract

// fieldExists: each field of a request template is a field of the request, of a
// response template one of the response.
var fieldExists = rule{"field-exists", func(s *schema, report report) {
	s.eachField(func(d *methodDecl, t *templateDecl, _ segment, _ *field, missing bool, reason string) {
		if missing {
			report(&d.element, t.at, "%s: %s", t.describe(), reason)
		}
	})
}}
