package contract

import "slices"

// principalShared: what depends on who calls is no answer for everybody.
var principalShared = rule{"principal-shared", func(s *schema, report report) {
	for _, d := range s.methods {
		for _, t := range d.templates {
			if d.reads.GetShared() && t.parsed != nil && slices.ContainsFunc(t.parsed.fields, isClaim) {
				report(&d.element, t.at, "%s takes a claim of the caller, and shared says that the answer depends on the request alone: a shared read's handler isn't told who calls; leave shared out",
					t.describe())
			}
		}
	}
}}
