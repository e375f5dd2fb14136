package setup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// in is how a publication has the table: by name, if it has it in several ways.
func (t *table) in(name string) *published {
	var found *published
	for i := range t.publications {
		if p := &t.publications[i]; p.name == name && p.root && (found == nil || p.direct) {
			found = p
		}
	}
	return found
}

// broken says why UPDATE and DELETE fail now in some part of the table, as it is
// published (nil: it isn't); empty: they pass. (The rules are CheckCmdReplicaIdentity's,
// in src/backend/executor/execReplication.c.)
func (t *table) broken(now *published) string {
	if now == nil || !now.changes {
		return ""
	}
	for i := range t.leaves {
		l := &t.leaves[i]
		var why string
		switch {
		case !l.identified():
			why = "no replica identity, and is published"
		case l.full() && now.columns != nil:
			why = "REPLICA IDENTITY FULL and the publication a column list"
		case l.full() && t.version >= 180000 && (l.virtual || l.stored && !now.stored):
			why = "REPLICA IDENTITY FULL, and generated columns that the publication leaves out"
		case !l.full() && now.columns != nil && !covers(now.columns, l.identity):
			why = fmt.Sprintf("the replica identity %s, and the publication's column list lacks one of these", strings.Join(l.identity, ", "))
		case !l.full() && t.version >= 180000 && now.columns == nil && !now.stored && t.generates(l.identity):
			why = fmt.Sprintf("the replica identity %s, and the publication leaves out generated columns", strings.Join(l.identity, ", "))
		default:
			continue
		}
		return l.name + " has " + why + ": every UPDATE and DELETE of the application fails"
	}
	return ""
}

// generates reports whether one of the columns is a generated one.
func (t *table) generates(columns []string) bool {
	return slices.ContainsFunc(columns, func(name string) bool { return t.columns[name].generated })
}

// change is what gives the leaves of a table identities that fit.
type change struct {
	whole      bool     // the publication is to have no column list
	identities []string // all columns of identities, now and after it
	leaves     []string // the names of those that are changed
	before     []string // statements that can't run in a transaction
	sql        []string
	notes      []string
}

// identify adds what a leaf needs. why is not empty if nothing will do.
//
// An identity that takes another's place has that one's columns too, if that can be:
// nodes of another version, whose contract names other columns, may follow the table.
// (CheckLeftovers finds what is needed no longer.)
func (c *change) identify(t *table, l *leaf, want []string, publication string) (why string) {
	to, ok := choice{}, false
	if t.in(publication) != nil && !l.full() {
		others := slices.DeleteFunc(slices.Clone(l.identity), func(name string) bool { return t.columns[name].generated })
		to, ok = t.choose(l, distinct(slices.Concat(want, others)), publication)
	}
	if !ok {
		to, ok = t.choose(l, want, publication)
	}
	if !ok {
		return fmt.Sprintf("no replica identity of %s can cover the columns %s: %s", l.name, strings.Join(want, ", "), to.note)
	}
	columns := slices.Concat(to.columns, l.identity)
	c.identities = append(c.identities, columns...)
	// Before PostgreSQL 18 a column list can't have a generated column.
	c.whole = c.whole || to.full || l.full() || t.version < 180000 && t.generates(columns)
	if len(to.sql) > 0 {
		c.leaves = append(c.leaves, l.name)
		c.before = append(c.before, to.before...)
		c.sql = append(c.sql, to.sql...)
	}
	if to.note != "" {
		c.notes = append(c.notes, to.note)
	}
	return ""
}

// asks says that somebody has to ask for it, since it isn't done in a moment or
// has a price.
func (c *change) asks() bool { return len(c.before) > 0 || len(c.notes) > 0 }

// list is the column list that the contract needs: the templates' columns
// and the identities', now and after the change, and nothing else, so that
// bodies never travel. Nil: none.
func (c *change) list(want []string) []string {
	if c.whole {
		return nil
	}
	return distinct(slices.Concat(want, c.identities))
}

// setUp compares the table, whose templates use the columns want, with what
// capture needs of it. What must change for that changes in one transaction:
// no moment breaks writers, and nothing is half done where a statement fails.
func (p *publication) setUp(t *table, want []string) (problems []Problem) {
	now := t.in(p.name)
	var c change
	for i := range t.leaves {
		if why := c.identify(t, &t.leaves[i], want, p.name); why != "" {
			problems = append(problems, Problem{Text: why})
		}
	}
	if t.kind == "p" && !t.key {
		problems = append(problems, Problem{Warning: now != nil, Text: t.name + " has no primary key: a partition that is made later would have no replica identity, " +
			"and every UPDATE and DELETE in it would fail; give it a primary key (the columns of the partition key are part of it)"})
	}
	hopeless := len(Fatal(problems)) > 0
	if t.broken(now) != "" && (hopeless || c.asks()) {
		var rescue Problem
		rescue, now = p.rescue(t, now)
		problems = append(problems, rescue)
	}
	if hopeless {
		return problems
	}
	if missing, ok := p.complete(t, now, &c, want); ok {
		problems = append(problems, missing)
	}
	return problems
}

// rescue makes UPDATE and DELETE pass again, which fail now; at once, and by
// changing nothing but our publication: its column list where that is enough,
// else it takes the table out. It returns how the publication has the table then.
func (p *publication) rescue(t *table, now *published) (Problem, *published) {
	text := t.broken(now)
	after := *now
	after.columns = nil
	if !slices.ContainsFunc(t.leaves, func(l leaf) bool { return l.full() }) {
		after.columns = slices.Clone(now.columns)
		for _, l := range t.leaves {
			after.columns = append(after.columns, l.identity...)
		}
		after.columns = distinct(after.columns)
	}
	switch {
	case !now.direct:
		return Problem{Text: text + "; take the table out of the publication"}, now
	case t.broken(&after) == "" && (t.version >= 180000 || !t.generates(after.columns)):
		return newProblem(text, p.owner(t), p.relist(t, after.columns)...), &after
	default:
		return newProblem(text, p.owner(t), "alter publication "+quoteIdent(p.name)+" drop table "+t.name+";"), nil
	}
}

// complete makes one problem of all that is missing for a table.
func (p *publication) complete(t *table, now *published, c *change, want []string) (Problem, bool) {
	columns := c.list(want)
	broken := t.broken(now)
	sql, why := p.place(t, now, columns, broken)
	var wrong []string
	if why != "" {
		wrong = append(wrong, why)
	}
	stored := slices.ContainsFunc(t.leaves, func(l leaf) bool { return l.stored })
	if columns == nil && stored && t.version >= 180000 && (now == nil || !now.stored) {
		sql = append(sql, "alter publication "+quoteIdent(p.name)+" set (publish_generated_columns = stored);")
		if why == "" {
			wrong = append(wrong, cmp.Or(broken, fmt.Sprintf("the publication %q leaves out the generated columns of %s", p.name, t.name)))
		}
	}
	switch {
	case len(c.leaves) > 0 && len(want) == 0:
		wrong = append(wrong, strings.Join(c.leaves, ", ")+" has no replica identity: published, it would refuse every UPDATE and DELETE")
	case len(c.leaves) > 0 && broken != "":
		if !slices.Contains(wrong, broken) {
			wrong = append(wrong, broken)
		}
	case len(c.leaves) > 0:
		wrong = append(wrong, fmt.Sprintf("the replica identity of %s doesn't cover the columns %s: moves and deletes couldn't name the old topics", strings.Join(c.leaves, ", "), strings.Join(want, ", ")))
	}
	if len(wrong) == 0 {
		return Problem{}, false
	}
	// ALTER TABLE comes last: its lock stops the table's readers and writers.
	problem := newProblem(strings.Join(append(wrong, c.notes...), "; "), p.owner(t), append(sql, c.sql...)...)
	if problem.asked = c.asks(); problem.asked {
		problem.SQL = append(slices.Clone(c.before), problem.SQL...)
		problem.before = c.before
	}
	return problem, true
}

// place says how the publication is to have the table: with these columns (nil:
// all), and no row filter. broken is why its UPDATE and DELETE fail now.
func (p *publication) place(t *table, now *published, columns []string, broken string) (sql []string, why string) {
	switch {
	case now == nil && p.exists:
		return []string{p.add(t, columns)}, fmt.Sprintf("the publication %q lacks the table %s", p.name, t.name)
	case now == nil:
		return []string{p.add(t, columns)}, fmt.Sprintf("the publication %q is to have the table %s", p.name, t.name)
	case !now.direct: // as one of all tables, or of a schema: without a list
		return nil, ""
	case now.filtered:
		return p.relist(t, columns), fmt.Sprintf("the publication %q has a row filter on %s: changes would be lost", p.name, t.name)
	case now.columns == nil:
		return nil, ""
	case columns == nil:
		return p.relist(t, nil), cmp.Or(broken, fmt.Sprintf("the publication %q has a column list for %s, which its replica identity can't have", p.name, t.name))
	case !covers(now.columns, columns):
		// More than the contract needs is accepted, for rolling deploys.
		return p.relist(t, columns), cmp.Or(broken, fmt.Sprintf("the publication %q lists too few columns of %s: it needs %s", p.name, t.name, strings.Join(columns, ", ")))
	default:
		return nil, ""
	}
}

func (p *publication) add(t *table, columns []string) string {
	list := ""
	if len(columns) > 0 {
		list = " (" + quoteList(columns) + ")"
	}
	return "alter publication " + quoteIdent(p.name) + " add table " + t.name + list + ";"
}

// relist gives the table another column list. (SET TABLE would need the lists of
// all the others.)
func (p *publication) relist(t *table, columns []string) []string {
	return []string{"alter publication " + quoteIdent(p.name) + " drop table " + t.name + ";", p.add(t, columns)}
}

// owner is who may change the publication and the table, if we may not.
func (p *publication) owner(t *table) string {
	var owners []string
	for _, l := range t.leaves {
		if !l.owned {
			owners = append(owners, "the owner of "+l.name)
			break
		}
	}
	if by := p.by(); by != "" {
		owners = append(owners, by)
	}
	return strings.Join(owners, ", with the rights of ")
}

// distinct sorts, and drops what is there twice.
func distinct(columns []string) []string {
	slices.Sort(columns)
	return slices.Compact(columns)
}
