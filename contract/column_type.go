package contract

import "fmt"

// The types that a column of a template may have, by the fixed OIDs of
// pg_type.dat. Their text output is one canonical text for each value (a date's
// where DateStyle is ISO, as on our connections), and values are equal just when
// their texts are. An enum's is its label: a label that is renamed gives rows other
// topics and isn't in the WAL, so labels are looked after as the shape of a table is
// (store/wal).
const (
	oidBool    = 16
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidText    = 25
	oidDate    = 1082
	oidVarchar = 1043
	oidUUID    = 2950
)

// AnyEnum stands for every enum where a column's type is asked for: the OID of the
// pseudo-type anyenum.
const AnyEnum uint32 = 3500

// TypeOID is the OID of a type that a template takes, by its name in pg_type (anyenum
// for an enum);
// 0: it takes none of that name.
func TypeOID(name string) uint32 { return takenTypes[name] }

// Of each either any text is a value (of an enum, a label), or Spelling knows which are.
var takenTypes = map[string]uint32{
	"bool": oidBool, "int2": oidInt2, "int4": oidInt4, "int8": oidInt8, "text": oidText, "varchar": oidVarchar, "uuid": oidUUID, "date": oidDate, "anyenum": AnyEnum,
}

// refusedType is a type that a template can't take.
type refusedType struct{ name, instead string }

// What to do about a refused type.
const (
	insteadOfSettings = "its text depends on settings, or one value has several; give the table a column of text or of an integer for it"
	insteadOfCompound = "a topic takes one plain value; give it a column of its own"
	insteadOfPadded   = "values of it are equal that differ in trailing blanks; make it varchar or text"
	insteadOfOther    = "give the table a column of one of these types for it"
)

// refusedTypes are the built-in types that people do put into keys, by OID.
var refusedTypes = map[uint32]refusedType{
	17:   {"bytea", insteadOfSettings},
	18:   {`"char"`, "make it text"},
	19:   {"name", "make it text"},
	26:   {"oid", "make it bigint"},
	114:  {"json", insteadOfCompound},
	700:  {"real", insteadOfSettings},
	701:  {"double precision", insteadOfSettings},
	790:  {"money", insteadOfSettings},
	869:  {"inet", "make it text"},
	650:  {"cidr", "make it text"},
	1042: {"character(n)", insteadOfPadded},
	1083: {"time", insteadOfSettings},
	1114: {"timestamp", insteadOfSettings},
	1184: {"timestamptz", insteadOfSettings},
	1186: {"interval", insteadOfSettings},
	1266: {"timetz", insteadOfSettings},
	1700: {"numeric", insteadOfSettings},
	3802: {"jsonb", insteadOfCompound},

	1000: {"boolean[]", insteadOfCompound},
	1005: {"smallint[]", insteadOfCompound},
	1007: {"integer[]", insteadOfCompound},
	1009: {"text[]", insteadOfCompound},
	1015: {"varchar[]", insteadOfCompound},
	1016: {"bigint[]", insteadOfCompound},
	2951: {"uuid[]", insteadOfCompound},
}

// TypeError says that a column has a type which a template can't take.
type TypeError struct {
	Schema, Table, Column string
	OID                   uint32
	// Type is the type's name, and Instead what to do about it. Bind knows
	// those of the built-in types; whoever has the catalog fills in the others.
	Type, Instead string
	Path          bool // the column is used as {column=**}
}

func (e *TypeError) Error() string {
	name := "type " + e.Type
	if e.Type == "" {
		name = fmt.Sprintf("type with oid %d", e.OID)
	}
	takes := "topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these"
	if e.Path {
		takes = "{" + e.Column + "=**} takes text and varchar"
	}
	instead := e.Instead
	if instead != "" {
		instead = ": " + instead
	}
	return fmt.Sprintf("%s.%s: column %q has the %s; %s%s", e.Schema, e.Table, e.Column, name, takes, instead)
}

// typeError refuses a column's type.
func (s *Source) typeError(column int, oid uint32, path bool) *TypeError {
	e := &TypeError{Schema: s.Schema, Table: s.Table, Column: s.columns[column], OID: oid, Path: path}
	if path {
		e.Type = pathless[oid]
		return e
	}
	known, ok := refusedTypes[oid]
	if !ok {
		known.instead = insteadOfOther
	}
	e.Type, e.Instead = known.name, known.instead
	return e
}

// pathless are the types that a template takes, but not as a resource path.
var pathless = map[uint32]string{
	AnyEnum: "an enum", oidDate: "date", oidBool: "boolean", oidInt2: "smallint", oidInt4: "integer", oidInt8: "bigint", oidUUID: "uuid",
}
