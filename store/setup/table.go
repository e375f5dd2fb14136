package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-dev/freshet/contract"
)

// unfit says why a source's table can't be captured, whatever is set up; empty:
// it can. Its rows must be in the WAL, under a name that the publication has.
func (t *table) unfit(publication string) []string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch {
	case t.kind == "v":
		add("the source %s is not an ordinary, logged table but a view: name the tables that it reads as sources instead", t.name)
	case t.kind == "m":
		add("the source %s is not an ordinary, logged table but a materialized view, and REFRESH isn't in the stream: name the tables that it is made of, or say `told: true` and tell its topics with each refresh (pg_logical_emit_message)", t.name)
	case t.kind == "f":
		add("the source %s is not an ordinary, logged table but a foreign one: its changes are in the WAL of the database where it lives, which a node of its own can follow", t.name)
	case t.kind != "r" && t.kind != "p":
		add("the source %s is not an ordinary, logged table", t.name)
	case t.persistence == "t":
		add("the source %s is not an ordinary, logged table but a temporary one: no other session sees its rows", t.name)
	case t.persistence != "p":
		add("the source %s is not an ordinary, logged table but unlogged: its changes aren't in the WAL; ALTER TABLE … SET LOGGED makes it one, and rewrites it under a lock", t.name)
	}
	for _, c := range t.children {
		switch {
		case !c.partition:
			add("the table %s inherits from the source %s: reads of the latter show its rows, and their changes are never told; make it a partition, or end the inheritance (ALTER TABLE … NO INHERIT) and name it as a source of its own", c.name, t.name)
		case c.kind == "f":
			add("the partition %s of %s is a foreign table: reads show its rows, and their changes are never told; detach it, or let the reads have a source without it", c.name, t.name)
		case c.persistence != "p":
			add("the partition %s of %s is unlogged or temporary: reads show its rows, and their changes are never told; ALTER TABLE … SET LOGGED makes it an ordinary one, and rewrites it under a lock", c.name, t.name)
		}
	}
	for _, p := range t.publications {
		if p.name == publication && p.above {
			add("the source %s is a partition of a table that the publication %q has: what changes is told under that table's name alone; name that one as the source", t.name, publication)
			break
		}
	}
	return why
}

// apart says that setting it up concerns no other table: it is above none and below
// none, and has nothing for which the publication as a whole is changed.
func (t *table) apart() bool {
	stored := slices.ContainsFunc(t.leaves, func(l leaf) bool { return l.stored })
	return !t.partition && len(t.children) == 0 && (t.version < 180000 || !stored)
}

// columnProblems checks that the templates' columns exist, can be told as
// text, are in the WAL, and are equal just when their texts are.
func (t *table) columnProblems(source *contract.Source) []string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	text := contract.TypeOID("text")
	var types []uint32
	for _, name := range source.Columns() {
		c, ok := t.columns[name]
		known := len(why)
		switch {
		case !ok:
			add("the table %s has no column %q, which a topic template uses: run the migration that adds it, or take it out of the contract", t.name, name)
		case c.generated:
			add("the column %q of %s is generated: it isn't in the WAL, so no topic can use it; let a trigger fill an ordinary column", name, t.name)
		case c.collation != "":
			add("the column %q of %s has the nondeterministic collation %q: texts that it takes for equal would be topics that differ; use a deterministic collation, or a further column that holds one form of the text (lower case, say)", name, t.name, c.collation)
		}
		switch {
		case len(why) > known:
			c.baseOID = text // its type is no matter then, and those of the others are
		case c.enum:
			c.baseOID = contract.AnyEnum
		}
		types = append(types, c.baseOID)
	}
	for { // Bind tells one type, and this all of them
		_, err := source.Bind(types)
		if err == nil {
			return why
		}
		var wrong *contract.TypeError
		if !errors.As(err, &wrong) {
			return append(why, err.Error())
		}
		t.columns[wrong.Column].explain(wrong)
		why = append(why, wrong.Error())
		types[slices.Index(source.Columns(), wrong.Column)] = text
	}
}

// explain fills in what only the catalog knows of a type that isn't built in.
func (c column) explain(e *contract.TypeError) {
	switch {
	case c.base != "":
		e.Type = c.typeName + " (a domain over " + c.base + ")"
	case strings.HasSuffix(c.typeName, "citext"):
		e.Type, e.Instead = c.typeName, "values of it are equal that differ in case; make it text, and keep one form of it (lower case, say)"
	case e.Type == "":
		e.Type = c.typeName
	}
}
