package check_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/bufbuild/protocompile"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/freshet-dev/freshet/check"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// tallyProto is a service that has nothing of messages: counters on boards, with
// numbers in place of texts, ids of its own, no pages, no list of everything, and a
// topic for each counter wherever it is. Its messages are well-known types, so that
// nothing has to be generated.
const tallyProto = `
syntax = "proto3";
package tally.v1;
import "freshet/v1/options.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";

message Counter {
  option (freshet.v1.source) = {table: "tally.counters" topics: "boards/{board}" topics: "counters/{name}"};
}
service TallyService {
  rpc GetBoard(google.protobuf.StringValue) returns (google.protobuf.Struct) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "boards/{value}" shared: true};
  }
  rpc GetCounter(google.protobuf.StringValue) returns (google.protobuf.Int64Value) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "counters/{value}" shared: true};
  }
  rpc SetCounter(google.protobuf.Struct) returns (google.protobuf.Empty) {
    option (freshet.v1.writes) = {topics: "boards"};
  }
  rpc DropCounter(google.protobuf.StringValue) returns (google.protobuf.Empty) {
    option (freshet.v1.writes) = {topics: "boards"};
  }
}`

const (
	getBoard    = "/tally.v1.TallyService/GetBoard"
	getCounter  = "/tally.v1.TallyService/GetCounter"
	setCounter  = "/tally.v1.TallyService/SetCounter"
	dropCounter = "/tally.v1.TallyService/DropCounter"
)

// tallyWorkload is all that the checker needs to know of it.
func tallyWorkload() check.Workload {
	set := check.NewMutation[structpb.Struct, emptypb.Empty](setCounter, func(r check.Row) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{
			"board": structpb.NewStringValue(r.Place), "name": structpb.NewStringValue(r.ID), "value": structpb.NewNumberValue(float64(r.Cell.Number())),
		}}
	}, nil)
	return check.Workload{
		Topics: []check.Topic{
			{Kind: check.OfPlace, Name: "boards/{board}", Read: check.NewQuery(getBoard,
				func(a check.Ask) *wrapperspb.StringValue { return wrapperspb.String(a.Place) },
				func(a *structpb.Struct) (page check.Page) {
					for _, value := range a.GetFields() {
						page.AddNumber("", int64(value.GetNumberValue()))
					}
					return page
				})},
			{Kind: check.OfRow, Name: "counters/{id}", Read: check.NewQuery(getCounter,
				func(a check.Ask) *wrapperspb.StringValue { return wrapperspb.String(a.ID) },
				func(a *wrapperspb.Int64Value) (page check.Page) {
					page.AddNumber("", a.GetValue())
					return page
				})},
		},
		Create: set, Update: set,
		Delete: check.NewMutation[wrapperspb.StringValue, emptypb.Empty](dropCounter,
			func(r check.Row) *wrapperspb.StringValue { return wrapperspb.String(r.ID) }, nil),
		Table: check.Table{Name: "tally.counters", ID: "name", Place: "board", Cell: "value", Numbers: true},
		ID:    func(run string, row int) string { return fmt.Sprintf("%s-%d", run, row) },
	}
}

// tally is the service. It reads on a pool of its own, and writes by the store, so
// that its answers name topics.
type tally struct {
	pool *pgxpool.Pool
	db   *store.DB
	// lazy answers GetBoard from what it has read a while ago: a cache of its own
	// that nobody invalidates.
	lazy bool

	mu   sync.Mutex // guards kept
	kept map[string]*structpb.Struct
	at   time.Time // when kept was begun
}

func (s *tally) board(ctx context.Context, req *connect.Request[wrapperspb.StringValue]) (*connect.Response[structpb.Struct], error) {
	const long = 200 * time.Millisecond
	board := req.Msg.GetValue()
	s.mu.Lock()
	if time.Since(s.at) > long {
		s.kept, s.at = map[string]*structpb.Struct{}, time.Now()
	}
	kept := s.kept[board]
	s.mu.Unlock()
	if kept != nil && s.lazy {
		return connect.NewResponse(kept), nil
	}
	rows, err := s.pool.Query(ctx, "select name, value from tally.counters where board = $1", board)
	if err != nil {
		return nil, err
	}
	answer := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	var name string
	var value int64
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		answer.Fields[name] = structpb.NewNumberValue(float64(value))
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[board] = answer
	return connect.NewResponse(answer), err
}

func (s *tally) counter(ctx context.Context, req *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.Int64Value], error) {
	var value int64
	err := s.pool.QueryRow(ctx, "select value from tally.counters where name = $1", req.Msg.GetValue()).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such counter"))
	}
	return connect.NewResponse(wrapperspb.Int64(value)), err
}

func (s *tally) set(ctx context.Context, req *connect.Request[structpb.Struct]) (*connect.Response[emptypb.Empty], error) {
	in := req.Msg.GetFields()
	return s.exec(ctx, "insert into tally.counters (board, name, value) values ($1, $2, $3) on conflict (board, name) do update set value = excluded.value",
		in["board"].GetStringValue(), in["name"].GetStringValue(), int64(in["value"].GetNumberValue()))
}

func (s *tally) drop(ctx context.Context, req *connect.Request[wrapperspb.StringValue]) (*connect.Response[emptypb.Empty], error) {
	return s.exec(ctx, "delete from tally.counters where name = $1", req.Msg.GetValue())
}

func (s *tally) exec(ctx context.Context, sql string, args ...any) (*connect.Response[emptypb.Empty], error) {
	err := s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
	return connect.NewResponse(&emptypb.Empty{}), err
}

// handler is what generated code would be.
func (s *tally) handler(db *store.DB, opts ...connect.HandlerOption) (string, http.Handler) {
	s.db = db
	reads := append([]connect.HandlerOption{connect.WithIdempotency(connect.IdempotencyNoSideEffects)}, opts...)
	mux := http.NewServeMux()
	mux.Handle(getBoard, connect.NewUnaryHandler(getBoard, s.board, reads...))
	mux.Handle(getCounter, connect.NewUnaryHandler(getCounter, s.counter, reads...))
	mux.Handle(setCounter, connect.NewUnaryHandler(setCounter, s.set, opts...))
	mux.Handle(dropCounter, connect.NewUnaryHandler(dropCounter, s.drop, opts...))
	return "/tally.v1.TallyService/", mux
}

// serveTally starts a real server of the service, and returns its URL.
func serveTally(t *testing.T, database string, lazy bool) string {
	t.Helper()
	pool, err := pgxpool.New(testkit.Context(t), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(testkit.Context(t), `create schema tally;
		create table tally.counters (board text not null, name text not null, value bigint not null, primary key (board, name))`)
	require.NoError(t, err)
	s := &tally{pool: pool, lazy: lazy}
	return serve(t, database, func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{tallyDescriptor(t)}
		c.Migrate, c.Check = nil, nil
		c.Handler = func(node *server.Node) (string, http.Handler) { return s.handler(node.DB(), node.HandlerOptions()...) }
	})
}

// tallyDescriptor compiles tallyProto, with the messages of Go's well-known types.
func tallyDescriptor(t *testing.T) protoreflect.ServiceDescriptor {
	t.Helper()
	const name = "tally/v1/tally.proto"
	files, err := (&protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			switch path {
			case name:
				return protocompile.SearchResult{Source: strings.NewReader(tallyProto)}, nil
			case freshetv1.File_freshet_v1_options_proto.Path():
				return protocompile.SearchResult{Desc: freshetv1.File_freshet_v1_options_proto}, nil
			}
			return protocompile.SearchResult{}, os.ErrNotExist
		})),
	}).Compile(t.Context(), name)
	require.NoError(t, err)
	text, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	require.NoError(t, err)
	again := &descriptorpb.FileDescriptorProto{}
	require.NoError(t, proto.Unmarshal(text, again))
	file, err := protodesc.NewFile(again, protoregistry.GlobalFiles)
	require.NoError(t, err)
	return file.Services().ByName("TallyService")
}

// The checker knows no service: what it can do with messages it can do with counters,
// by their workload alone, on a real server.
func TestRun_anotherService(t *testing.T) {
	t.Parallel()
	report := runTally(t, false, 6*time.Second)
	requireNoViolation(t, report)
	require.Positive(t, report.Exact)
	require.Positive(t, report.Notice.N)
	require.Positive(t, report.Data.N)
	names := map[check.Exercise]bool{}
	for _, e := range report.Exercised {
		names[e.Exercise] = true
		if e.Exercise != "lists in several pages" { // it has no pages
			require.True(t, e.N > 0 || e.Needs == noStandby, e.Exercise)
		}
	}
	for _, name := range []check.Exercise{"GetBoard", "GetCounter", "SetCounter", "DropCounter", "notices of boards/{board}", "notices of counters/{id}"} {
		require.True(t, names[name], name)
	}
}

// A service that answers from a cache of its own is caught, whatever it is about.
func TestRun_anotherServiceBroken(t *testing.T) {
	t.Parallel()
	var o outcome
	for length := 2 * time.Second; length <= 32*time.Second && o.broken()["G6"] == 0; length *= 2 { // as judge
		o.report = runTally(t, true, length)
	}
	require.Contains(t, o.broken(), "G6")
	for _, v := range o.report.Verdicts {
		if v.Violations > 0 {
			requireShown(t, v)
		}
	}
}

func runTally(t *testing.T, lazy bool, length time.Duration) *check.Report {
	t.Helper()
	url := testkit.Database(t)
	address := serveTally(t, url, lazy)
	ctx := testkit.Context(t)
	cfg := check.Config{
		URL: address, Workload: tallyWorkload(), Run: "tally", Seed: 1, Duration: length, Round: length / 2, Patience: time.Minute,
		Clients: 12, Places: 4, Writers: 3, Rate: 100,
		// The database is the checker's own. What a server takes to see a change of
		// its publication is in Patience.
		Stage: &check.Stage{},
	}
	if lazy {
		cfg.Run, cfg.Stage, cfg.Patience = "lazy", nil, 0
	}
	database, err := check.OpenPostgres(ctx, url, cfg.Run, cfg.Workload.Table)
	require.NoError(t, err)
	cfg.Database = database
	report, err := check.Run(ctx, cfg)
	require.NoError(t, err)
	require.NoError(t, database.Close(ctx, cfg.PlaceNames()))
	return report
}
