// Package oneline has errors fit on a line of a log.
//
// pgx's error of a connection that couldn't be made has a line for each address that was
// tried, and each address twice where TLS is tried, and then none.
package oneline

import "strings"

// Error returns err with a text of one line, in which nothing is there twice; nil for nil.
// What it wraps is as before. It is for those who connect: once it is part of another
// error's text, it is too late.
func Error(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	var parts []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if line == "" || said(parts, line) {
			continue
		}
		parts = append(parts, line)
	}
	text := strings.Join(parts, "; ")
	return &lineError{text: strings.ReplaceAll(text, ":; ", ": "), err: err}
}

// said reports whether a line says nothing that one of parts doesn't.
func said(parts []string, line string) bool {
	for _, part := range parts {
		if strings.HasSuffix(part, line) {
			return true
		}
	}
	return false
}

type lineError struct {
	text string
	err  error
}

func (e *lineError) Error() string { return e.text }

func (e *lineError) Unwrap() error { return e.err }
