package wal

import (
	"cmp"

	"github.com/freshet-dev/freshet/contract"
)

// relation is what a Relation message said of a table, bound to its source.
type relation struct {
	source  *contract.Source // nil: not a source; a superset publication is accepted
	rows    *contract.Rows   // nil: a column of the templates is missing or of another type
	types   []uint32         // of the source's columns; nil: one is missing
	tried   int              // how many enums were known when rows was last tried
	columns []int            // for each of the source's columns, its place in a tuple
	covered bool             // the replica identity covers them all: old rows can be told
}

// domain takes a Type message, which comes before the Relation that needs it. Of
// a domain it has the name of the type below, whose texts its values have.
func (d *decoder) domain(body []byte) {
	c := cursor{rest: body}
	oid, schema, name := c.uint32(), c.string(), c.string()
	if base := contract.TypeOID(name); c.err == nil && schema == "" && base != 0 { // no schema: pg_catalog
		d.bases[oid] = base
	}
}

// relation binds a table's columns to its source's templates.
func (d *decoder) relation(m relationMessage) {
	r := &relation{source: d.program.Source(m.schema, m.table)}
	d.relations[m.id] = r
	d.changed()
	if r.source == nil {
		return
	}
	types := make([]uint32, 0, len(r.source.Columns()))
	r.covered = true
	for _, name := range r.source.Columns() {
		at := -1
		for i, c := range m.columns {
			if c.name == name {
				at = i
				r.covered = r.covered && c.key
				types = append(types, c.typeOID)
			}
		}
		if at < 0 {
			// WAL from before a contract change, or a column that was
			// renamed or dropped: all topics of the table, never wrong ones.
			// Whether it is so now, the watchdog finds out.
			return
		}
		r.columns = append(r.columns, at)
	}
	r.types = types
	d.bind(r)
}

// bind finds the way from a table's rows to topics. A type that nobody has looked up
// yet may turn out to be an enum; until then all topics are told.
func (d *decoder) bind(r *relation) {
	known := d.enums.all()
	r.tried = len(known)
	types := make([]uint32, len(r.types))
	for i, oid := range r.types {
		types[i] = cmp.Or(d.bases[oid], oid)
		if _, ok := known[oid]; ok {
			types[i] = contract.AnyEnum
		}
	}
	if rows, err := r.source.Bind(types); err == nil {
		r.rows = rows
	}
}
