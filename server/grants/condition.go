package grants

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Bounds of an expression. Who writes one is trusted, what it looks at comes from
// a token.
const (
	maxExpressionBytes = 4 << 10
	maxExpressionDepth = 64
	maxExpressionCost  = 20_000 // a few milliseconds; to look through a list of 1,000 scopes costs some 5,000
	interruptEvery     = 100    // iterations
)

// maxDecide bounds the evaluation of all expressions for one caller.
const maxDecide = 250 * time.Millisecond

var celEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(maxExpressionBytes),
		cel.ParserRecursionLimit(maxExpressionDepth),
	)
})

// condition is a compiled expression.
type condition struct{ program cel.Program }

// newCondition's error says what is wrong, in one line.
func newCondition(expression string) (*condition, error) {
	env, err := celEnv()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%s (at %d:%d of the expression; it is CEL, over the variable claims)",
			first.Message, first.Location.Line(), first.Location.Column()+1)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it is of type %s, not a condition; compare it with something", t)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(maxExpressionCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	return &condition{program}, nil
}

// holds asks the condition. unmet says why an expression that has failed on these
// claims counts as false: a claim is missing, say. The error is ctx's: then nothing
// is decided.
func (c *condition) holds(ctx context.Context, claims map[string]any) (ok bool, unmet, err error) {
	out, _, failed := c.program.ContextEval(ctx, map[string]any{"claims": claims})
	switch {
	case ctx.Err() != nil:
		return false, nil, ctx.Err()
	case failed != nil:
		return false, errors.New(oneLine(failed.Error())), nil
	}
	met, isBool := out.Value().(bool)
	if !isBool {
		return false, fmt.Errorf("it is of type %s for these claims, not a bool", out.Type().TypeName()), nil
	}
	return met, nil, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
