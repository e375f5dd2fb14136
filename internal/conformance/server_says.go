package conformance

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// saysCases are about what answers say beside what they answer.
var saysCases = []Case{
	{Name: "principal", Section: Caller, Says: "sorted by name, each value escaped as in a topic", server: func(t *trial) {
		said, ok := parsePrincipal(t.read(t.place()))
		t.needf(ok, "Freshet-Principal is %q", said)
	}},
	{Name: "cause", Section: Calls, Says: "what may have made you ask: the newest change of the answer's topics up to that revision", server: func(t *trial) {
		place := t.place()
		topic := t.service.topic(place)
		l := t.events(url.Values{"topic": {topic}, "throttle": {"0"}})
		l.until("ready")
		l.write(place)
		rev := t.content(l.seen[len(l.seen)-1]).Revision
		t.write(place) // which isn't what made anybody ask for that
		said := t.read(place, atLeast, rev).header.Get(causeHeader)
		if said == "" {
			return // a server need not explain itself
		}
		members, ok := dictionary(said)
		t.needf(ok && members["change"] != "", "%s is %q", causeHeader, said)
		named, err := url.PathUnescape(members["topic"])
		t.needf(err == nil && (named == "" || named == topic), "%q had changed; %s is %q", topic, causeHeader, said)
		t.needf(members["revision"] <= rev, "the read was at-least %s; %s is %q", rev, causeHeader, said)
	}},
	{Name: "cause-of-at-least", Section: Calls, Says: "answer to a read at-least a revision, from a server that explains itself", server: func(t *trial) {
		place := t.place()
		t.write(place)
		said := t.read(place).header.Get(causeHeader)
		t.needf(said == "", "a read that is strong was told nothing before it; %s is %q", causeHeader, said)
	}},
}

const (
	causeHeader     = "Freshet-Cause"
	principalHeader = "Freshet-Principal"
)

var claim = regexp.MustCompile(`^([^=,{}]+)=((?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+)$`)

// parsePrincipal returns the claims that an answer says, each a name and a value as in a
// topic; ok is false if that is written in another way. None: there are none.
func parsePrincipal(a answer) (claims [][2]string, ok bool) {
	said := strings.Join(a.header.Values(principalHeader), ",")
	if said == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(said, ",") {
		found := claim.FindStringSubmatch(strings.TrimSpace(part))
		if found == nil {
			return [][2]string{{said}}, false
		}
		claims = append(claims, [2]string{found[1], found[2]})
	}
	sorted := slices.IsSortedFunc(claims, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return claims, sorted
}

// as is the service as the caller has it: with the claims that the answer of a read says.
func (s Service) as(claims [][2]string) Service {
	for _, c := range claims {
		s.Read.Topic = strings.ReplaceAll(s.Read.Topic, "{principal."+c[0]+"}", c[1])
	}
	return s
}

// member of a dictionary of structured fields (RFC 9651): a key with a string, a number,
// a date or a token. Others are not among those that the protocol names.
var member = regexp.MustCompile(`^[ \t]*([a-z*][a-z0-9_.*-]*)=("(?:[ !#-[\]-~]|\\["\\])*"|@?-?[0-9]{1,15}(?:\.[0-9]{1,3})?|[A-Za-z*][^ \t,;"()]*)[ \t]*(?:,|$)`)

// dictionary reads one. Strings come without their quotes.
func dictionary(text string) (members map[string]string, ok bool) {
	members = map[string]string{}
	for text != "" {
		found := member.FindStringSubmatch(text)
		if found == nil {
			return nil, false
		}
		members[found[1]] = strings.Trim(found[2], `"`)
		text = text[len(found[0]):]
	}
	return members, true
}
