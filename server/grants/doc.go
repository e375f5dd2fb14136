// Package grants says what a caller may: a file maps the claims of a token to
// patterns of topics.
//
// It upholds G8 (nothing leaks): what no pattern names is denied, with one error
// whether it exists or not. A claim's value is escaped as contract.Escape does, so
// it fills one segment and can't widen a pattern, whatever is in it. What can't be
// decided (an expression that fails, a claim that is missing or of another type, a
// detail that isn't understood) grants nothing.
//
// # The file
//
//	anonymous:                  # everybody, with a token or without
//	  read: ["announcements/**"]
//	rules:                      # callers who are known; all rules that apply add up
//	  - when: "'messages.read' in claims.scope.split(' ')"   # CEL; absent: always
//	    read:  ["orgs/{org_id}/**"]
//	    write: ["orgs/{org_id}/projects/*/tasks/**"]
//	authorization_details: true # patterns of the token itself count, too (RFC 9396)
//
// A pattern is a path: `*` is one segment, `**` any number of them, none included,
// once in a pattern; `{claim}` is the value of a claim, or each of its values if
// it is a list. Claims are strings, whole numbers and bools. `{a.b}` looks into an
// object; a name with other characters than letters, digits, `_`, `-` and dots is
// that of one claim. A claim that stands twice in a pattern has one value there.
//
// A subscription needs what a read of its topics needs: patterns of `read`.
//
// # The parts
//
//	pattern    parses patterns, binds them to a caller's values, matches topics
//	caller     who asks: claims, their digest
//	parse      the file's YAML, with places
//	condition  CEL, bounded in cost and time
//	details    authorization_details of a token
//	set        a compiled file: decides; what a caller may is kept, bounded in bytes
//	explain    the same decision in words, for `freshet grants test`
//	file       a file that is read again when it changes; a broken one isn't used
//
// # What it does not promise
//
// It knows topics, not rows: whoever may read a topic may read all of it. Topics are
// compared as texts: `..` is a segment like any other.
//
// Everything here is safe for concurrent use.
package grants
