package systemtest_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
	"github.com/freshet-dev/freshet/internal/testkit/families"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store/setup"
)

var (
	familySteps = flag.Int("families.steps", 80, "how often rows move in TestFamilies_G3_model, in all")
	familyBatch = flag.Int("families.batch", 80, "after how many steps there are other schemas, on another database")
	familySeed  = flag.Uint64("families.seed", 0, "which schemas and moves; 0: by the clock")
)

// familiesAtOnce are as many schemas as a database has.
const familiesAtOnce = 4

// household is a family, its clients, and a connection that writes.
type household struct {
	*families.Family
	conn    *pgx.Conn
	clients []watcher
}

// watcher is a client of one place, in whatever language.
type watcher interface {
	// changes yields what it holds, nil if that isn't fresh, until ctx ends.
	changes(ctx context.Context) func(yield func(*boardsv1.Row) bool)
	place() families.Place
	String() string
}

// goWatcher is a client.Query.
type goWatcher struct {
	*client.Query[boardsv1.LookRequest, boardsv1.Row]
	at families.Place
}

func (w goWatcher) place() families.Place { return w.at }

func (w goWatcher) String() string { return fmt.Sprintf("the Go client, which follows %q", w.Topics()) }

func (w goWatcher) changes(ctx context.Context) func(yield func(*boardsv1.Row) bool) {
	return func(yield func(*boardsv1.Row) bool) {
		for s := range w.Changes(ctx) {
			row := s.Value
			if !s.Fresh {
				row = nil
			}
			if !yield(row) {
				return
			}
		}
	}
}

// live starts a server of several families.
func liveFamilies(t *testing.T, all []*families.Family) (url, database string) {
	t.Helper()
	database = testkit.Database(t)
	return live.Start(t, database, func(c *live.Config) {
		c.Services = nil
		for _, f := range all {
			c.Services = append(c.Services, f.Service)
		}
		c.AuditReads = intercept.AuditAll
		c.Throttle = server.None
		c.Check = nil
		c.Migrate = func(ctx context.Context, config *pgx.ConnConfig) error {
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			for _, f := range all {
				if _, err := conn.Exec(ctx, f.Tables()); err != nil {
					return fmt.Errorf("%w: %s", err, f.Tables())
				}
			}
			program, err := contract.Compile(c.Services...)
			if err != nil {
				return err
			}
			problems, err := setup.ApplyAll(ctx, conn, program, server.Publication, nil)
			if fatal := setup.Fatal(problems); err == nil && len(fatal) > 0 {
				err = &setup.Error{Problems: fatal}
			}
			return err
		}
		c.Handlers = func(node *server.Node) (services []front.Service) {
			for _, f := range all {
				path, handler := f.Handler(node.DB(), node.HandlerOptions()...)
				services = append(services, front.Service{Descriptor: f.Service, Path: path, Handler: handler})
			}
			return services
		}
	}).URL, database
}

// follow has a Go client of each place, as long as the test runs.
func (h *household) follow(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	freshet, err := client.New(url)
	require.NoError(t, err)
	calls := connect.NewClient[boardsv1.LookRequest, boardsv1.Row](http.DefaultClient, url+h.Procedure, connect.WithInterceptors(client.NewInterceptor()))
	ended := make(chan error, len(h.Places))
	for _, place := range h.Places[1:] { // of one nobody asks
		q, err := client.NewQuery(freshet, calls.CallUnary, place.Request(), client.WithProcedure(h.Procedure))
		require.NoError(t, err)
		h.clients = append(h.clients, goWatcher{q, place})
		go func() { ended <- q.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range h.Places[1:] {
			require.ErrorIs(t, <-ended, context.Canceled)
		}
	})
}

// step is some transactions, one or a few that come while answers to the ones before are
// under way: then answers, notices and streams meet as they may.
func (h *household) step(ctx context.Context, rng *rand.Rand, n int) (what string, err error) {
	all := []string{fmt.Sprintf("step %d", n)}
	for more := true; more && err == nil; more = rng.IntN(3) > 0 {
		sql := h.Move(rng, n)
		all = append(all, sql)
		if _, err = h.conn.Exec(ctx, sql); err != nil {
			err = fmt.Errorf("%w: %s\n%s", err, sql, h.Tables())
		}
		if rng.IntN(2) == 0 {
			<-time.After(rand.N(10 * time.Millisecond))
		}
	}
	return strings.Join(all, "\n"), err
}

// disagreement waits until every client shows what Postgres holds, and says who doesn't.
func (h *household) disagreement(ctx context.Context, what string) error {
	for _, w := range h.clients {
		want, err := h.Look(ctx, h.conn, w.place().Request())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		var got *boardsv1.Row
		for got = range w.changes(ctx) {
			if got != nil && proto.Equal(got, want) {
				break
			}
		}
		err = ctx.Err()
		cancel()
		if err != nil {
			return fmt.Errorf("G3: after %s, for %+v: %v shows\n%v, and Postgres holds\n%v\n%s", what, w.place(), w, got, want, h.Tables())
		}
	}
	return nil
}

// Topics out of the answer: of random schemas, of up to three levels, of which each row
// knows its parent only. Rows come, go, change, move below other parents and change
// their keys at random, also many at once, and after each step every client shows what
// Postgres holds. No read looks into more than its answer's topics say (F52).
func TestFamilies_G3_model(t *testing.T) {
	seed := *familySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-families.seed=%d", seed)
	for batch, left := 0, *familySteps; left > 0; batch, left = batch+1, left-*familyBatch {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			moveFamilies(t, seed+uint64(batch), min(left, *familyBatch)) //nolint:gosec // not negative
		})
		if t.Failed() {
			return
		}
	}
}

func moveFamilies(t *testing.T, seed uint64, steps int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var all []*families.Family
	for i := range familiesAtOnce {
		all = append(all, families.New(rng, fmt.Sprintf("f%d_%d", seed, i)))
	}
	url, database := liveFamilies(t, all)
	var households []*household
	for _, f := range all {
		h := &household{Family: f, conn: testkit.Conn(t, database)}
		h.follow(t, url)
		households = append(households, h)
	}
	openPage(t, url, households)
	group, ctx := errgroup.WithContext(t.Context())
	for i, h := range households {
		rng := rand.New(rand.NewPCG(seed, uint64(i)+1)) //nolint:gosec // not negative
		group.Go(func() error {
			err := h.disagreement(ctx, "the start")
			for n := 0; n < steps/familiesAtOnce && err == nil; n++ {
				var what string
				if what, err = h.step(ctx, rng, n); err == nil {
					err = h.disagreement(ctx, what)
				}
			}
			return err
		})
	}
	require.NoError(t, group.Wait(), "-families.seed=%d -families.steps=%d", seed, steps)
}
