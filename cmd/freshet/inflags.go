package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/auth"
)

// misset reports whether an error of serve is of the settings themselves: the same ones
// will fail the same way. One of a file that they name isn't, since somebody may put it
// right, or there, meanwhile.
func misset(err error) bool {
	if errors.As(err, new(*fs.PathError)) {
		return false
	}
	return errors.As(err, new(*settingsError)) || errors.As(err, new(*front.ConfigError)) || errors.As(err, new(*auth.ConfigError))
}

// settingsError is an error of settings, in the words of whoever gave them.
type settingsError struct{ error }

// Unwrap returns what it was.
func (e *settingsError) Unwrap() error { return e.error }

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
		return &settingsError{err}
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
	err = fmt.Errorf("%s: want %s%s", name, field.Want, or)
	if field.Err != nil {
		return err
	}
	return &settingsError{err}
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
