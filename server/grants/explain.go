package grants

import (
	"context"
	"fmt"
	"strings"
)

// Explanation is a decision about one topic, in words. String is some lines for
// people.
type Explanation struct {
	Topic   string
	Action  Action
	Allowed bool
	// Reasons are, of a grant, the rule and the pattern; of a denial, what each rule
	// said, and what is wrong with the topic.
	Reasons []string
}

func (e *Explanation) String() string {
	verdict := "denied"
	if e.Allowed {
		verdict = "granted"
	}
	return fmt.Sprintf("%s: %s\n  %s\n", strings.TrimSpace(string(e.Action)+" "+e.Topic), verdict, strings.Join(e.Reasons, "\n  "))
}

// Explain decides as Authorize does about one topic, or of the action Admin as
// AuthorizeAdmin does, and says why. The error is that
// of Authorize, but for ErrDenied.
func (s *Set) Explain(ctx context.Context, caller Caller, action Action, topic string) (*Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, maxDecide)
	defer cancel()
	e := &Explanation{Topic: topic, Action: action}
	claims := caller.claims()
	for _, r := range s.rules {
		if r.number > 0 && !caller.isKnown() {
			e.addf("%s (%v) doesn't apply: the caller isn't known", r.name(), r.at)
			continue
		}
		if r.when != nil {
			applies, unmet, err := r.when.holds(ctx, claims)
			if err != nil {
				return nil, fmt.Errorf("%v: %s: when takes longer than %v: simplify it", r.at, r.name(), maxDecide)
			}
			if !applies {
				why := ""
				if unmet != nil {
					why = ": " + unmet.Error()
				}
				e.addf("%s (%v) doesn't apply: when is false%s", r.name(), r.at, why)
				continue
			}
		}
		if e.Action == Admin {
			if r.admin {
				e.Allowed, e.Reasons = true, []string{fmt.Sprintf("%s (%v): admin: true", r.name(), r.at)}
				return e, nil
			}
			e.addf("%s (%v) doesn't say admin: true", r.name(), r.at)
			continue
		}
		if e.weigh(fmt.Sprintf("%s (%v)", r.name(), r.at), r.read, r.write, claims) {
			return e, nil
		}
	}
	if e.Action == Admin {
		e.addf("nothing but `admin: true` in a rule grants the admin port")
		return e, nil
	}
	if s.takesDetails {
		d := newDetails(claims)
		if e.weigh("authorization_details of the token", d.read, d.write, claims) {
			return e, nil
		}
		e.Reasons = append(e.Reasons, d.problems...)
	} else if _, ok := claims["authorization_details"]; ok {
		e.addf("authorization_details of the token don't count: the file doesn't say `authorization_details: true`")
	}
	if len(e.Reasons) == 0 {
		e.addf("the file grants nothing to anybody")
	}
	return e, nil
}

func (e *Explanation) addf(format string, args ...any) {
	e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...))
}

// weigh looks for a pattern that grants, or notes why none does.
func (e *Explanation) weigh(who string, read, write []*pattern, claims map[string]any) bool {
	patterns := choose(e.Action, read, write)
	if len(patterns) == 0 {
		e.addf("%s has no patterns of %s", who, strings.Join(choose(e.Action, []string{"read"}, []string{"write"}), ""))
	}
	for _, p := range patterns {
		at := ""
		if p.at.line > 0 {
			at = fmt.Sprintf(" (line %d)", p.at.line)
		}
		b, ok := p.bind(claims)
		switch {
		case !ok:
			e.addf("%s: %q%s grants nothing: %s", who, p.text, at, p.unbound(claims))
		case b.match(e.Topic):
			e.Allowed, e.Reasons = true, []string{fmt.Sprintf("%s: %q%s", who, p.text, at)}
			return true
		default:
			e.addf("%s: %q%s doesn't match%s", who, p.text, at, b.spelled())
		}
	}
	return false
}

// unbound says which claim has no value.
func (p *pattern) unbound(claims map[string]any) string {
	for _, c := range p.claims {
		if len(c.texts(claims)) == 0 {
			return fmt.Sprintf("the claim %s is missing, empty, or no text, whole number, bool or list of these", c.text)
		}
	}
	return ""
}

// spelled says what the claims of a pattern stand for.
func (b *bound) spelled() string {
	if len(b.claims) == 0 {
		return ""
	}
	parts := make([]string, len(b.claims))
	for i, c := range b.claims {
		parts[i] = fmt.Sprintf("{%s} is %s", c.text, b.values[i].one)
		if n := len(b.values[i].many); n > 0 {
			parts[i] += fmt.Sprintf(" or another of %d", n)
		}
	}
	return ": " + strings.Join(parts, ", ")
}
