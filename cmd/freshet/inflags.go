package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/freshet-dev/freshet/server"
)

// inFlags says what is wrong with a configuration in the words of whoever gave it.
func inFlags(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // it is not the chain that is asked
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, inFlags(one))
		}
		return errors.Join(all...)
	}
	var field *server.ConfigError
	if !errors.As(err, &field) {
		return err
	}
	name := cmp.Or(map[string]string{
		"MaxStreamsPerCaller": "--max-streams-per-address",
		"ReplicaURLs":         "--replica-url",
		"NATSURLs":            "--nats-url",
		"NATSFallback":        "--nats-fallback",
		"DBRoleClaim":         "--db-role-claim",
		"DBAnonymousRole":     "--db-anonymous-role",
	}[field.Field], natsFlagOf(strings.TrimPrefix(field.Field, "NATS")), flagOf(field.Field))
	or := ""
	if field.None {
		or = ", or 0 for none"
	}
	return fmt.Errorf("%s: want %s%s", name, field.Want, or)
}

// flagOf is the flag that is named like a field: --max-wait for MaxWait.
func flagOf(field string) string {
	var b strings.Builder
	b.WriteByte('-')
	for _, r := range field {
		if unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
