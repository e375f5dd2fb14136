package contract

import "errors"

// templateSyntax: every template parses, and makes no topic that is the server's own.
var templateSyntax = rule{"template-syntax", func(s *schema, report report) {
	s.eachTemplate(func(e *element, t *templateDecl) {
		var syntax *SyntaxError
		if errors.As(t.err, &syntax) {
			report(e, t.at, "%s: at offset %d: %s", t.describe(), syntax.Offset, syntax.Reason)
		}
		if t.isReserved() {
			report(e, t.at, "%s: topics below freshet/ are the server's own, and nobody follows them without a grant; begin it with another word", t.describe())
		}
	})
}}

// isReserved reports whether the template's topics are the server's own. Those that revoke a
// subject's streams are for a table to tell, and for a method to cause; but no answer depends
// on them.
func (t *templateDecl) isReserved() bool {
	if t.parsed == nil || len(t.parsed.segments) < 2 || t.parsed.segments[0].literal != "freshet" {
		return false
	}
	revokes := len(t.parsed.segments) > 2 && t.parsed.segments[1].literal == "revoked"
	return !revokes || t.option != "source" && t.option != "writes"
}
