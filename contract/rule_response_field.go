package contract

import "slices"

// responseField: a response template has a field. Without one it says no more than
// a request template, and what the request tells is known before the answer is.
var responseField = rule{"response-field", func(s *schema, report report) {
	for _, d := range s.methods {
		for _, t := range d.templates {
			if t.option == responseTopics && t.parsed != nil && !slices.ContainsFunc(t.parsed.fields, isResponseField) {
				report(&d.element, t.at, "%s has no field of the response; move it to topics", t.describe())
			}
		}
	}
}}

func isResponseField(path string) bool { return !isClaim(path) }
