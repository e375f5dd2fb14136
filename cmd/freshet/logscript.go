package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode"

	"github.com/freshet-dev/freshet/store/setup"
)

// scripts is a handler of log lines for people: the SQL of a *setup.Error among the
// attributes, which the line could have in quotes only, follows it as it is to be run.
// It is indented, so that nothing in it looks like a line of the log. Of no other
// error: texts of others can be anybody's.
type scripts struct {
	slog.Handler
	to *scriptsTo
}

// scriptsTo is where lines go, and what follows them.
type scriptsTo struct {
	mu sync.Mutex // keeps a line and its script together
	w  io.Writer
}

func newScripts(w io.Writer, options *slog.HandlerOptions) slog.Handler {
	return &scripts{slog.NewTextHandler(w, options), &scriptsTo{w: w}}
}

// Handle implements slog.Handler.
func (h *scripts) Handle(ctx context.Context, r slog.Record) error {
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	var script strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		if text, sql, ok := scriptOf(a.Value); ok {
			a.Value = slog.StringValue(text)
			script.WriteString(sql)
		}
		line.AddAttrs(a)
		return true
	})
	h.to.mu.Lock()
	defer h.to.mu.Unlock()
	err := h.Handler.Handle(ctx, line)
	if err == nil && script.Len() > 0 {
		_, err = io.WriteString(h.to.w, script.String())
	}
	return err
}

// scriptOf takes the lines after the first off a *setup.Error's text.
func scriptOf(v slog.Value) (text, script string, ok bool) {
	err, isError := v.Any().(error)
	if !isError || !errors.As(err, new(*setup.Error)) {
		return "", "", false
	}
	text, script, ok = strings.Cut(err.Error(), "\n")
	script = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) { // nor is it for the terminal to obey
			return unicode.ReplacementChar
		}
		return r
	}, script)
	return text, "  " + strings.ReplaceAll(script, "\n", "\n  ") + "\n", ok
}

// WithAttrs implements slog.Handler.
func (h *scripts) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &scripts{h.Handler.WithAttrs(attrs), h.to}
}

// WithGroup implements slog.Handler.
func (h *scripts) WithGroup(name string) slog.Handler {
	return &scripts{h.Handler.WithGroup(name), h.to}
}
