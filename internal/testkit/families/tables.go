package families

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"

	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
	"github.com/freshet-dev/freshet/store"
)

// Tables are the statements that make its tables, empty.
func (f *Family) Tables() string {
	var sql strings.Builder
	fmt.Fprintf(&sql, "create domain %s as varchar(40) check (value <> ''); create type %s as enum ('%s');\n", f.domain(), f.enum(), strings.Join(labels, "', '"))
	for _, t := range f.tables {
		var columns []string
		for _, c := range t.key {
			columns = append(columns, c.name+" "+c.kind+" not null")
		}
		for _, c := range t.refers {
			null := map[bool]string{false: " not null"}[t.orphans]
			columns = append(columns, c.name+" "+c.kind+null)
		}
		columns = append(columns, "text varchar not null", "primary key ("+names(t.key)+")")
		if t.parent != nil {
			gone := map[bool]string{false: "cascade", true: "set null"}[t.orphans]
			columns = append(columns, fmt.Sprintf("foreign key (%s) references %s (%s) on update cascade on delete %s",
				names(t.refers), t.parent.name, names(t.parent.key), gone))
		}
		fmt.Fprintf(&sql, "create table %s (%s);\n", t.name, strings.Join(columns, ", "))
		if t.orphans { // else what Freshet's setup makes of it
			fmt.Fprintf(&sql, "alter table %s replica identity full;\n", t.name)
		}
	}
	return sql.String()
}

func names(columns []column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.name
	}
	return strings.Join(list, ", ")
}

// look is the expression of an array of a table's rows, below an alias or a place.
func (t *table) look(of string, place string, paged bool) string {
	alias, conditions, order := t.name, []string{}, []string{}
	fields := []string{}
	for _, c := range t.key {
		fields = append(fields, fmt.Sprintf("'%s', %s.%s::text", c.field, alias, c.name))
		order = append(order, fmt.Sprintf(`%s.%s::text collate "C"`, alias, c.name))
	}
	for i, c := range t.refers {
		value := place
		if t.parent != nil {
			value = of + "." + t.parent.key[i].name
		}
		conditions = append(conditions, fmt.Sprintf("%s.%s = %s", alias, c.name, value))
	}
	fields = append(fields, "'text', "+alias+".text")
	for _, child := range t.children {
		fields = append(fields, "'"+child.path[strings.LastIndexByte(child.path, '.')+1:]+"', "+child.look(alias, "", false))
	}
	page := ""
	if paged {
		page = "limit nullif($2::int, 0) offset $3::int"
	}
	by := strings.Join(order, ", ")
	return fmt.Sprintf("(select coalesce(json_agg(x.o order by x.n), '[]') from (select json_build_object(%s) as o, row_number() over (order by %s) as n from %s where %s order by %s %s) x)",
		strings.Join(fields, ", "), by, t.name, strings.Join(conditions, " and "), by, page)
}

// Querier is a connection or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Look is what the database holds for a request.
func (f *Family) Look(ctx context.Context, tx Querier, req *boardsv1.LookRequest) (*boardsv1.Row, error) {
	place := req.GetId()
	if f.place.field == "number" {
		place = strconv.FormatInt(req.GetNumber(), 10)
	}
	var fields []string
	for i, t := range f.roots {
		fields = append(fields, "'"+t.path+"', "+t.look("", "$1::text::"+f.place.kind, i == 0))
	}
	var text []byte
	err := tx.QueryRow(ctx, "select json_build_object("+strings.Join(fields, ", ")+")", place, req.GetPageSize(), req.GetSkip()).Scan(&text)
	if err != nil {
		return nil, err
	}
	row := new(boardsv1.Row)
	return row, protojson.Unmarshal(text, row)
}

// slowest is how long an answer is under way at most, beside what it takes.
const slowest = 20 * time.Millisecond

// Handler serves it.
func (f *Family) Handler(db *store.DB, opts ...connect.HandlerOption) (path string, handler http.Handler) {
	method := f.Service.Methods().Get(0)
	look := func(ctx context.Context, req *connect.Request[boardsv1.LookRequest]) (*connect.Response[boardsv1.Row], error) {
		var row *boardsv1.Row
		err := db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			row, err = f.Look(ctx, tx, req.Msg)
			return err
		})
		if err != nil {
			return nil, err
		}
		time.Sleep(rand.N(slowest)) //nolint:gosec // answers overtake each other, and what is told meanwhile
		return connect.NewResponse(row), nil
	}
	return "/" + string(f.Service.FullName()) + "/", connect.NewUnaryHandler(f.Procedure, look,
		append(opts, connect.WithSchema(method), connect.WithIdempotency(connect.IdempotencyNoSideEffects))...)
}
