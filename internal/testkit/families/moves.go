package families

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Move is a random change of some rows, as statements of one transaction, which may be
// rolled back. n is written into rows, and chooses most of them: moves of the same n are
// about the same rows, so that these go and come back while somebody reads.
func (f *Family) Move(rng *rand.Rand, n int) string {
	var all []string
	for more := true; more; more = rng.IntN(3) == 0 {
		all = append(all, f.tables[rng.IntN(len(f.tables))].move(rng, n))
	}
	sql := "begin; " + strings.Join(all, "; ")
	switch rng.IntN(20) {
	case 0:
		return sql + "; rollback"
	case 1: // a part of it doesn't count
		t := f.tables[rng.IntN(len(f.tables))]
		return sql + "; savepoint s; " + t.move(rng, n) + "; rollback to s; commit"
	default:
		return sql + "; commit"
	}
}

func (t *table) move(rng *rand.Rand, n int) string {
	switch dice := rng.IntN(60); {
	case dice == 0:
		return "truncate " + t.name + " cascade"
	case dice == 1: // all of them at once
		return fmt.Sprintf("update %s set text = '%d'", t.name, n)
	case dice < 28:
		return fmt.Sprintf("insert into %s (%s, %s, text) select %s, %s, 'new %d' from %s on conflict do nothing",
			t.name, names(t.key), names(t.refers), values(rng, t.key), t.parentColumns(), n, t.anyParent(rng))
	case dice < 38:
		return fmt.Sprintf("update %s set (%s) = (select %s from %s) where %s", t.name, names(t.refers), t.parentColumns(), t.anyParent(rng), t.one(rng, n))
	case dice < 46:
		return fmt.Sprintf("update %s set text = '%d' where %s", t.name, n, t.one(rng, n))
	case dice < 52: // another key, which children follow
		return fmt.Sprintf("update %[1]s set (%[2]s) = row(%[3]s) where %[4]s and not exists (select from %[1]s where (%[2]s) = (%[3]s))",
			t.name, names(t.key), values(rng, t.key), t.one(rng, n))
	case dice == 52 && t.orphans:
		return fmt.Sprintf("update %s set %s = null where %s", t.name, t.refers[0].name, t.one(rng, n))
	default:
		return fmt.Sprintf("delete from %s where %s", t.name, t.one(rng, n))
	}
}

// one is a condition that at most one row meets.
func (t *table) one(rng *rand.Rand, n int) string {
	if rng.IntN(4) == 0 {
		n = rng.IntN(1000)
	}
	key := "(" + names(t.key) + ")::text"
	return fmt.Sprintf("ctid = (select ctid from %s order by hashtext(%s || '%d'), %s limit 1)", t.name, key, n, key)
}

// anyParent is a relation of at most one row, whose columns parentColumns names.
func (t *table) anyParent(rng *rand.Rand) string {
	if t.parent == nil {
		c := t.refers[0]
		return fmt.Sprintf("(select %s as %s) p", values(rng, []column{{kind: c.kind, values: c.values[:4]}}), c.name)
	}
	return fmt.Sprintf("(select %[1]s from %[2]s order by hashtext((%[1]s)::text || '%[3]d'), (%[1]s)::text limit 1) p", names(t.parent.key), t.parent.name, rng.IntN(2))
}

func (t *table) parentColumns() string {
	columns := t.refers[:1]
	if t.parent != nil {
		columns = t.parent.key
	}
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = "p." + c.name
	}
	return strings.Join(list, ", ")
}

func values(rng *rand.Rand, columns []column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = "'" + strings.ReplaceAll(c.values[rng.IntN(len(c.values))], "'", "''") + "'::" + c.kind
	}
	return strings.Join(list, ", ")
}
