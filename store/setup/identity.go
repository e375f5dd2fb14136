package setup

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// An identity fits a leaf if it covers the columns of the templates, so that
// moves and deletes name the old topics, and lets every INSERT, UPDATE and
// DELETE pass that passed before. In this order:
//
//  1. the one in force;
//  2. a unique index that the application has: all its columns NOT NULL, valid
//     and immediate, neither partial nor on expressions;
//  3. such an index that we propose. It is on a key that is there already and
//     the templates' columns: on the latter alone, the second comment of a task
//     would be a duplicate. It takes no column that may be NULL (SET NOT NULL
//     would refuse rows that the application writes), and none whose values may
//     be too long for an index;
//  4. REPLICA IDENTITY FULL, and no column list in the publication.

// choice is the identity that a leaf is to have.
type choice struct {
	full    bool
	columns []string // unless full
	before  []string // statements that can't run in a transaction
	sql     []string // changes the identity; none: it fits as it is
	note    string   // what the change costs, and why it isn't a better one
}

// choose finds the identity for a leaf. ok is false if there is none; the
// choice's note says why.
func (t *table) choose(l *leaf, want []string, publication string) (c choice, ok bool) {
	if l.full() && t.fullPasses(l, publication) {
		return choice{full: true}, true
	}
	if !l.full() && l.identity != nil && covers(l.identity, want) {
		return choice{columns: l.identity}, true
	}
	return t.chooseAmong(l, t.keys(l), want, publication)
}

// chooseAmong is choose with these keys, whatever is in force.
func (t *table) chooseAmong(l *leaf, keys []index, want []string, publication string) (c choice, ok bool) {
	for _, i := range keys {
		if !covers(i.columns, want) || !t.othersAllow(l, i.columns, publication) {
			continue
		}
		using := "using index " + quoteIdent(i.name)
		if i.primary {
			using = "default"
		}
		return choice{columns: i.columns, sql: []string{"alter table " + l.name + " replica identity " + using + ";"}}, true
	}
	c, whyNot := t.propose(l, keys, want, publication)
	if whyNot == "" {
		return c, true
	}
	if !t.fullPasses(l, publication) || !t.othersAllow(l, nil, publication) {
		return choice{note: whyNot + ", and REPLICA IDENTITY FULL is out of the question: " + t.whyNotFull(l, publication)}, false
	}
	return choice{
		full: true,
		sql:  []string{"alter table " + l.name + " replica identity full;"},
		note: whyNot + ", so REPLICA IDENTITY FULL is left: every UPDATE and DELETE then writes the whole old row to the WAL, and whole rows travel to Freshet",
	}, true
}

// keys are the indexes that can be an identity, the primary key first, then
// those of fewer columns. (What becomes of generated columns in an identity
// differs from version to version.)
func (t *table) keys(l *leaf) []index {
	usable := slices.DeleteFunc(slices.Clone(l.indexes), func(i index) bool { return i.stale || i.nullable || t.generates(i.columns) })
	slices.SortStableFunc(usable, func(a, b index) int {
		if a.primary != b.primary {
			return map[bool]int{true: -1, false: 1}[a.primary]
		}
		return cmp.Compare(len(a.columns), len(b.columns))
	})
	return usable
}

// maxKeyBytes is somewhat less than what a btree takes of a row: a third of a
// page, 2,704 bytes.
const maxKeyBytes = 2600

// propose makes up an index on a key and the templates' columns. whyNot is
// empty if it can break nothing.
func (t *table) propose(l *leaf, keys []index, want []string, publication string) (c choice, whyNot string) {
	if len(keys) == 0 {
		return c, l.name + " has no primary key, and no other unique index of NOT NULL columns, that could be its identity"
	}
	c.columns = slices.Clone(keys[0].columns)
	bytes := 0
	for _, name := range want {
		if slices.Contains(c.columns, name) {
			continue
		}
		c.columns = append(c.columns, name)
		switch col := t.columns[name]; {
		case !col.notNull:
			return c, fmt.Sprintf("the column %q of %s may be NULL and can't be part of an identity", name, l.name)
		case col.boundedByTree:
		case col.maxBytes == 0:
			whyNot = fmt.Sprintf("the column %q of %s may hold texts that are too long for an index (once it has an index of its own, or is a varchar(n), a unique index that includes it will do)", name, l.name)
		default:
			bytes += col.maxBytes
		}
	}
	switch {
	case whyNot != "":
		return c, whyNot
	case bytes > maxKeyBytes:
		return c, fmt.Sprintf("the columns %s of %s may hold texts that are too long for an index together", strings.Join(want, ", "), l.name)
	case !t.othersAllow(l, c.columns, publication):
		return c, "another publication has a column list or a row filter on " + l.name + " that the identity wouldn't fit"
	}
	name := indexName(l.table)
	if slices.ContainsFunc(l.indexes, func(i index) bool { return i.name == name }) {
		// Left over from a CREATE INDEX CONCURRENTLY that failed, or of another contract.
		if l.kind == "i" && l.identity != nil && slices.ContainsFunc(l.indexes, func(i index) bool { return i.name == name && !i.stale }) {
			name = indexName(l.table + "_" + strings.Join(c.columns, "_")) // that one is in force
		} else {
			c.before = append(c.before, "drop index concurrently if exists "+quoteIdent(l.schema, name)+";")
		}
	}
	c.before = append(c.before, "create unique index concurrently "+quoteIdent(name)+" on "+l.name+" ("+quoteList(c.columns)+");")
	c.sql = []string{"alter table " + l.name + " replica identity using index " + quoteIdent(name) + ";"}
	return c, ""
}

// identityPrefix begins the names of indexes that we propose.
const identityPrefix = "freshet_identity_"

// indexName is the name of the index that we propose for a table. Postgres cuts
// names after 63 bytes; what we cut ourselves stays distinct.
func indexName(table string) string {
	name := identityPrefix + table
	if len(name) > 63 {
		sum := sha256.Sum256([]byte(table))
		name = fmt.Sprintf(identityPrefix+"%x", sum[:12])
	}
	return name
}

// othersAllow reports whether UPDATE and DELETE of a leaf pass in every other
// publication once its identity is of these columns (nil: FULL). A column list
// must contain the identity; a row filter may use the identity's columns only,
// so that whatever it uses now must stay.
func (t *table) othersAllow(l *leaf, columns []string, publication string) bool {
	for _, p := range t.publications {
		switch {
		case p.name == publication || !p.changes:
		case p.columns != nil && (columns == nil || !covers(p.columns, columns)):
			return false
		case p.filtered && columns != nil && (l.full() || !covers(columns, l.identity)):
			return false
		}
	}
	return true
}

// fullPasses reports whether UPDATE and DELETE of a leaf pass with REPLICA
// IDENTITY FULL, given that our publication has no column list. From PostgreSQL
// 18 on each generated column must be published then, which stored ones can be:
// ours is told to, others are as they are.
func (t *table) fullPasses(l *leaf, publication string) bool {
	if t.version < 180000 {
		return true
	}
	if l.virtual {
		return false
	}
	return !l.stored || !slices.ContainsFunc(t.publications, func(p published) bool { return p.name != publication && p.changes && !p.stored })
}

func (t *table) whyNotFull(l *leaf, publication string) string {
	switch {
	case !t.fullPasses(l, publication) && l.virtual:
		return "it has virtual generated columns, which PostgreSQL can't publish, so that every UPDATE and DELETE would fail; give it a key that can be an identity"
	case !t.fullPasses(l, publication):
		return "it has generated columns that another publication doesn't publish, so that every UPDATE and DELETE would fail; set publish_generated_columns = stored there"
	default:
		return "another publication has a column list on it, so that every UPDATE and DELETE would fail; take that list away first, or add the columns to it"
	}
}

// covers reports whether have contains each of want.
func covers(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

func quoteList(columns []string) string {
	quoted := make([]string, len(columns))
	for i, name := range columns {
		quoted[i] = quoteIdent(name)
	}
	return strings.Join(quoted, ", ")
}
