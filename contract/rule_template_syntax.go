package contract

import "errors"

// templateSyntax: every template parses.
var templateSyntax = rule{"template-syntax", func(s *schema, report report) {
	s.eachTemplate(func(e *element, t *templateDecl) {
		var syntax *SyntaxError
		if errors.As(t.err, &syntax) {
			report(e, t.at, "%s: at offset %d: %s", t.describe(), syntax.Offset, syntax.Reason)
		}
	})
}}
