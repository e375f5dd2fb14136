package contract

import (
	"slices"
	"strings"
)

// principalClaim: a claim of the caller fills one segment of a topic, is one of few, is
// no field of a message, and says something of the caller.
var principalClaim = rule{"principal-claim", func(s *schema, report report) {
	for _, d := range s.methods {
		if claims := d.claims(); len(claims) > maxClaims {
			report(&d.element, d.templates[0].at, "its topics take %d claims of the caller; %d is the most", len(claims), maxClaims)
		}
	}
	s.eachField(func(d *methodDecl, t *templateDecl, seg segment, f *field, _ bool, _ string) {
		if f == nil || f.claim == "" {
			return
		}
		name, _, _ := strings.Cut(f.claim, ".")
		switch md := d.message(t); {
		case seg.rest:
			report(&d.element, t.at, "%s: a claim fills one segment, so that no caller's name leads elsewhere; write {%s}", t.describe(), f.path)
		case namesItself(md):
			report(&d.element, t.at, "%s: {%s} is a claim of the caller, and %s has a field principal itself; rename the field", t.describe(), f.path, md.FullName())
		case slices.Contains(fleetingClaims, name):
			report(&d.element, t.at, "%s: the claim %s is another one in each token of a caller, and no row spells it; take one that names the caller, as {principal.sub}", t.describe(), name)
		}
	})
}}
