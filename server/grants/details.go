package grants

import (
	"fmt"
	"slices"
)

// DetailType is the type of authorization_details (RFC 9396) that are grants:
//
//	{"type": "freshet", "actions": ["read"], "topics": ["orgs/acme/**"]}
const DetailType = "freshet"

// maxDetailPatterns bounds the patterns of one token.
const maxDetailPatterns = 100

// details are what a token itself grants.
type details struct {
	read, write []*pattern
	problems    []string // why one of them grants nothing
}

// newDetails reads a token's authorization_details. One that has a member that we
// don't know may be narrower than it seems, so it grants nothing.
func newDetails(claims map[string]any) (d details) {
	all, ok := claims["authorization_details"]
	if !ok {
		return d
	}
	list, ok := all.([]any)
	if !ok {
		d.problems = append(d.problems, "authorization_details is not a list")
		return d
	}
	for i, element := range list {
		detail, ok := element.(map[string]any)
		if !ok || detail["type"] != DetailType {
			continue // somebody else's
		}
		if reason := d.add(detail); reason != "" {
			d.problems = append(d.problems, fmt.Sprintf("authorization_details[%d]: %s", i, reason))
		}
	}
	return d
}

// add takes all of a detail, or says why nothing of it.
func (d *details) add(detail map[string]any) (reason string) {
	for name := range detail {
		if !slices.Contains([]string{"type", "actions", "topics"}, name) {
			return fmt.Sprintf("it has a member %q that isn't known: it takes type, actions, topics", clip(name))
		}
	}
	actions, ok := textList(detail["actions"])
	if !ok {
		return `actions is not a list of "read" and "write"`
	}
	topics, ok := textList(detail["topics"])
	if !ok {
		return "topics is not a list of patterns"
	}
	if len(d.read)+len(d.write)+len(actions)*len(topics) > maxDetailPatterns {
		return fmt.Sprintf("more than %d patterns in one token", maxDetailPatterns)
	}
	patterns := make([]*pattern, len(topics))
	for i, text := range topics {
		var err error
		if patterns[i], err = parsePattern(text); err != nil {
			return err.Error()
		}
	}
	for _, action := range actions {
		if action != "read" && action != "write" {
			return fmt.Sprintf("there is no action %q: it takes read, write", clip(action))
		}
	}
	if slices.Contains(actions, "read") {
		d.read = append(d.read, patterns...)
	}
	if slices.Contains(actions, "write") {
		d.write = append(d.write, patterns...)
	}
	return ""
}

// textList returns a list of texts that isn't empty.
func textList(v any) (texts []string, ok bool) {
	list, _ := v.([]any)
	for _, element := range list {
		text, ok := element.(string)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, len(texts) > 0
}
