package intercept

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/store"
)

// audit compares what a read's handler really looked into with what the
// contract declares. A table that is no source, or a source that can emit none
// of the read's topics, means that the answer may change without a notice.
//
// It sees tables, not rows: a read that declares one conversation and lists
// another of the same table passes.
func audit(program *contract.Program, on bool) connect.Interceptor {
	return unary(func(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
		resp, err := next(ctx, req)
		method := program.Method(req.Spec().Procedure)
		if !on || method == nil || method.Kind != contract.Read {
			return resp, err
		}
		if undeclared := auditCall(program, method, scannedIn(ctx)); undeclared != nil {
			return nil, undeclared
		}
		return resp, err
	})
}

func scannedIn(ctx context.Context) []string {
	if call, ok := ctx.Value(callKey{}).(*store.Call); ok {
		return call.Scanned()
	}
	return nil
}

func auditCall(program *contract.Program, method *contract.Method, scanned []string) error {
	for _, table := range scanned {
		if isExempt(table) || slices.ContainsFunc(method.Sources(), named(table)) {
			continue
		}
		if slices.ContainsFunc(program.Sources(), named(table)) {
			return &AuditError{method.Procedure, table, fmt.Sprintf(
				"none of its topics can be one of the read's, %s", strings.Join(method.Templates(), ", "))}
		}
		return &AuditError{method.Procedure, table, "it is not a source: no message of the contract declares it"}
	}
	return nil
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
