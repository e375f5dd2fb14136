package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/store"
)

// AuditMode says which calls prove their declaration.
type AuditMode string

// The modes. The zero value is AuditSample.
const (
	// AuditSample has the first executions of each procedure audited, and one in
	// 10,000 after. What is found is reported, and the answer given.
	AuditSample AuditMode = "sample"
	// AuditAll has every execution audited, and fails those that read what they
	// don't declare: for tests.
	AuditAll AuditMode = "all"
	// AuditOff has none audited.
	AuditOff AuditMode = "off"
)

const (
	auditFirst = 10
	auditEvery = 10_000
)

// audit compares what a handler really looked into with what the contract
// declares. A table that is no source, or a source that can emit none of the
// read's topics, means that the answer may change without a notice: so from
// then on its procedure's answers are neither kept nor shared, until the process
// ends.
//
// It sees tables, not rows: a read that declares one conversation and lists
// another of the same table passes. Calls that don't go through the store it
// doesn't see at all.
type audit struct {
	program *contract.Program
	mode    AuditMode
	logger  *slog.Logger
	metrics *Metrics
	report  func(*AuditError)
	known   map[string]*audited // by procedure

	mu       sync.Mutex // guards the fields below
	reported map[AuditError]bool
	hinted   map[string]bool // tables that are written, and no source
	blind    bool            // it was logged that Postgres can't tell
}

// audited is what is known of a procedure.
type audited struct {
	runs   atomic.Uint64
	barred atomic.Bool // a read of it looks into what it doesn't declare
}

func newAudit(cfg *Config) *audit {
	a := &audit{
		program: cfg.Contract, mode: cfg.Audit, logger: cfg.Logger, metrics: cfg.Metrics, report: cfg.OnUndeclared,
		known: map[string]*audited{}, reported: map[AuditError]bool{}, hinted: map[string]bool{},
	}
	for _, m := range cfg.Contract.Methods() {
		a.known[m.Procedure] = new(audited)
		if m.Kind == contract.Read {
			cfg.Metrics.undeclaredReads(m.Procedure, 0) // so that it is there, at zero
		}
	}
	return a
}

// due says whether this execution of a procedure is audited.
func (a *audit) due(procedure string) bool {
	known := a.known[procedure]
	switch {
	case known == nil || a.mode == AuditOff:
		return false
	case a.mode == AuditAll:
		return true
	}
	n := known.runs.Add(1)
	return n <= auditFirst || n%auditEvery == 0
}

// bars reports whether a procedure's answers are not to be kept or shared.
func (a *audit) bars(procedure string) bool {
	known := a.known[procedure]
	return known != nil && known.barred.Load()
}

// around asks a service's handler, and judges what it did. The store is told of the
// call here, and nowhere else.
func (a *audit) around(next connect.UnaryFunc) ask {
	return func(ctx context.Context, req connect.AnyRequest, told *store.Call) (connect.AnyResponse, error) {
		resp, err := next(store.WithCall(ctx, told), req)
		method := a.program.Method(req.Spec().Procedure)
		if !told.Audit || method == nil {
			return resp, err
		}
		if method.Kind != contract.Read {
			a.hint(ctx, told)
			return resp, err
		}
		scanned, why := told.Scanned()
		if why != nil {
			if a.mode == AuditAll {
				return nil, why
			}
			a.cannot(ctx, why)
		}
		undeclared := auditCall(a.program, method, scanned)
		switch {
		case undeclared == nil:
		case a.mode == AuditAll:
			return nil, undeclared
		default:
			a.found(ctx, undeclared)
		}
		return resp, err
	}
}

// found bars the procedure, and reports each table once.
func (a *audit) found(ctx context.Context, e *AuditError) {
	a.metrics.undeclaredReads(e.Procedure, 1)
	if known := a.known[e.Procedure]; known != nil {
		known.barred.Store(true)
	}
	a.mu.Lock()
	known := a.reported[*e]
	a.reported[*e] = true
	a.mu.Unlock()
	if known {
		return
	}
	a.logger.LogAttrs(ctx, slog.LevelWarn, "a read looks into a table that it doesn't declare: its answers are neither kept nor shared until this process ends",
		slog.String("procedure", e.Procedure), slog.String("table", e.Table), slog.String("reason", e.Reason))
	if a.report != nil {
		a.report(e)
	}
}

// hint logs, once each, the tables that calls write and nobody is told of.
func (a *audit) hint(ctx context.Context, call *store.Call) {
	written, why := call.Written()
	if why != nil {
		a.cannot(ctx, why)
	}
	for _, table := range written {
		a.mu.Lock()
		known := a.hinted[table]
		a.hinted[table] = true
		a.mu.Unlock()
		if !known && !isExempt(table) && !isSource(a.program, table) {
			a.logger.LogAttrs(ctx, slog.LevelInfo, "a table is written that is no source: no topic tells of it", slog.String("table", table))
		}
	}
}

// cannot logs once why calls are not audited.
func (a *audit) cannot(ctx context.Context, why error) {
	a.mu.Lock()
	known := a.blind
	a.blind = true
	a.mu.Unlock()
	if !known {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "reads can't be audited", slog.Any("error", why))
	}
}

func auditCall(program *contract.Program, method *contract.Method, scanned []string) *AuditError {
	for _, table := range scanned {
		if isExempt(table) || slices.ContainsFunc(method.Sources(), named(table)) {
			continue
		}
		if isSource(program, table) {
			return &AuditError{method.Procedure, table, fmt.Sprintf(
				"none of its topics can be one of the read's, %s", strings.Join(append(method.Templates(), method.ResponseTemplates()...), ", "))}
		}
		return &AuditError{method.Procedure, table, "it is not a source: no message of the contract declares it"}
	}
	return nil
}

func isSource(program *contract.Program, table string) bool {
	return slices.ContainsFunc(slices.Concat(program.Sources(), program.Told()), named(table))
}

func named(table string) func(*contract.Source) bool {
	return func(s *contract.Source) bool { return s.String() == table }
}

// isExempt: our own bookkeeping and the catalogs are not what answers are
// made of.
func isExempt(table string) bool {
	return strings.HasPrefix(table, "freshet.") || strings.HasPrefix(table, "pg_") || strings.HasPrefix(table, "information_schema.")
}

// AuditError says that a read's answer depends on a table that its declaration
// leaves out. Its text is told to the caller: whoever turns the audit on wants
// to see it.
type AuditError struct{ Procedure, Table, Reason string }

func (e *AuditError) Error() string {
	return fmt.Sprintf("%s reads table %s, and so can change without a notice: %s", e.Procedure, e.Table, e.Reason)
}
