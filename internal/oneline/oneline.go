// Package oneline has errors fit on a line of a log.
//
// pgx's error of a connection that couldn't be made has a line for each address that was
// tried, and each address twice where TLS is tried, and then none.
package oneline

import (
	"slices"
	"strings"
)

// noTLS ends the line of an attempt with TLS at a server that has none. Where it was tried
// without as well (sslmode=prefer), that line has the reason.
const noTLS = ": tls error: server refused TLS connection"

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
	var reasons []string
	for _, part := range parts {
		if !triedWithoutTLS(parts, part) {
			reasons = append(reasons, part)
		}
	}
	text := strings.Join(reasons, "; ")
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

// triedWithoutTLS reports whether a line says that a server has no TLS, and another one of
// parts what became of it without.
func triedWithoutTLS(parts []string, line string) bool {
	address, refused := strings.CutSuffix(line, noTLS)
	return refused && slices.ContainsFunc(parts, func(part string) bool {
		return part != line && strings.HasPrefix(part, address+": ")
	})
}

type lineError struct {
	text string
	err  error
}

func (e *lineError) Error() string { return e.text }

func (e *lineError) Unwrap() error { return e.err }
