package setup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Problem is one thing in the database's set-up that isn't as capture needs
// it, and the SQL that mends it.
type Problem struct {
	Text    string   // one sentence
	SQL     []string // to run in this order; may be empty
	Warning bool     // capture works, but somebody should know
	// Source is the source that it is about, as contract.Source.String has it.
	// Empty: it concerns all of them.
	Source string
	// By says whose rights the SQL needs, if not those of the role that looked:
	// "a superuser". Empty: that role may run it.
	By string

	// What can be run without anybody, as SQL says for people: mend in one
	// transaction, once each of before has run outside of one. Empty: it isn't
	// this role's, or somebody has to decide.
	before, mend []string
	// asked says that it takes its time or has its price, so that it is run only
	// where somebody has asked for it.
	asked bool
	// apart says that its statements change nothing that another source's problems
	// are about, so that those need no new look.
	apart bool
}

// newProblem is a problem with the statements that mend it, which can run in one
// transaction and belong in one if there are several. by is whose rights they
// need, if not ours.
func newProblem(text, by string, sql ...string) Problem {
	p := Problem{Text: text, By: by, SQL: sql}
	if by == "" {
		p.mend = sql
	}
	switch {
	case slices.ContainsFunc(sql, func(s string) bool { return strings.HasPrefix(s, "alter table ") }):
		p.SQL = slices.Concat([]string{"begin;", "set local lock_timeout = '" + lockTimeout + "';"}, sql, []string{"commit;"})
	case len(sql) > 1:
		p.SQL = slices.Concat([]string{"begin;"}, sql, []string{"commit;"})
	}
	return p
}

// lockTimeout is how long a statement of ours may wait for a lock of the
// application's tables: whatever comes after it waits as well. It is below
// deadlock_timeout, so that in a deadlock it is never the application that fails.
const lockTimeout = "500ms"

// Error says that capture can't run, or can't be trusted, and what to do.
type Error struct{ Problems []Problem }

// Error says what is wrong, or how much is, in its first line. What follows psql takes as it
// stands: the problems as comments if they are several, then the SQL that mends them,
// a statement a line (one that can't run in a transaction is on its own), under who may.
func (e *Error) Error() string {
	var lines []string
	if len(e.Problems) == 1 {
		lines = append(lines, oneLine.Replace(e.Problems[0].Text))
	} else if len(e.Problems) > 1 {
		lines = append(lines, fmt.Sprintf("%d things are to be mended in the database", len(e.Problems)))
		for _, p := range e.Problems {
			lines = append(lines, "-- "+oneLine.Replace(p.Text))
		}
	}
	by := ""
	for _, p := range e.Problems {
		if len(p.SQL) == 0 {
			continue
		}
		if p.By != by {
			by = p.By
			lines = append(lines, "-- to be run by "+oneLine.Replace(cmp.Or(by, "the role that was told"))+":")
		}
		lines = append(lines, p.SQL...)
	}
	return strings.Join(lines, "\n")
}

// oneLine keeps what is in a comment in it, whatever somebody has put into a name.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", " ", "\r", " ")

// Fatal returns the problems that keep capture from working: those that are no
// warnings.
func Fatal(problems []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Warning })
}

func quoteIdent(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
