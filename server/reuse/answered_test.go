package reuse

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

// boards is a service whose answers say more of what they depend on than its
// requests.
const boards = `syntax = "proto3";
import "freshet/v1/options.proto";
message Task {
  option (freshet.v1.source) = {table: "tasks" topics: "boards/{board}/tasks"};
  string id = 1;
  int64 comments = 2;
}
message Comment {
  option (freshet.v1.source) = {table: "comments" topics: "tasks/{task}/comments" topics: "tasks/-/comments"};
}
message Request { string board = 1; }
message Response { repeated Task tasks = 1; int64 version = 2; }
service Boards {
  rpc Get(Request) returns (Response) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "boards/{board}/tasks" response_topics: "tasks/{tasks.id}/comments" shared: true};
  }
}`

// compileBoards compiles them.
func compileBoards(t *testing.T) (*contract.Method, protoreflect.MethodDescriptor) {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		switch path {
		case "freshet/v1/options.proto":
			return protocompile.SearchResult{Desc: freshetv1.File_freshet_v1_options_proto}, nil
		case "boards.proto":
			return protocompile.SearchResult{Source: io.NopCloser(strings.NewReader(boards))}, nil
		}
		return protocompile.SearchResult{}, os.ErrNotExist
	}))}
	files, err := c.Compile(t.Context(), "boards.proto")
	require.NoError(t, err)
	service := files[0].Services().Get(0)
	program, err := contract.Compile(service)
	require.NoError(t, err)
	return program.Method("/Boards/Get"), service.Methods().Get(0)
}

// shelf is a database with boards of tasks of comments, as it was at each version.
// Version n is committed at position 100 + n, and seen before that is told.
type shelf struct {
	hub  *hub.Hub
	made *Reads

	method *contract.Method
	desc   protoreflect.MethodDescriptor

	mu       sync.Mutex // guards the fields below
	board    map[string]string
	comments map[string]int
	states   []map[string]string // by version: what each board's answer is
	untold   []freshet.Commit
}

func newShelf(t *testing.T, tasks int) *shelf {
	r := newRig(t, func(c *Config) { c.ReadInterval = -1 })
	s := &shelf{hub: r.hub, made: r.made, board: map[string]string{}, comments: map[string]int{}}
	s.method, s.desc = compileBoards(t)
	for n := range tasks {
		s.board[fmt.Sprint("t", n)] = "a"
	}
	s.states = []map[string]string{s.look()}
	return s
}

// look is what each board's answer is now.
func (s *shelf) look() map[string]string {
	state := make(map[string]string)
	for _, b := range []string{"a", "b"} {
		state[b] = s.answer(b)
	}
	return state
}

func (s *shelf) answer(board string) string {
	var tasks []string
	for task, on := range s.board {
		if on == board {
			tasks = append(tasks, fmt.Sprintf(`{"id":%q,"comments":"%d"}`, task, s.comments[task]))
		}
	}
	slices.Sort(tasks)
	return "[" + strings.Join(tasks, ",") + "]"
}

// commit changes a row; tell has the hub know of the oldest commit that it doesn't.
func (s *shelf) commit(topics ...string) {
	s.states = append(s.states, s.look())
	s.untold = append(s.untold, freshet.Commit{Revision: at(100 + uint64(len(s.states)) - 1), Topics: topics})
}

func (s *shelf) move(task, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.board[task]
	s.board[task] = to
	s.commit("boards/"+from+"/tasks", "boards/"+to+"/tasks")
}

func (s *shelf) comment(task string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.comments[task]++
	s.commit("tasks/"+task+"/comments", "tasks/-/comments")
}

func (s *shelf) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.untold) > 0 {
		s.hub.Publish(s.untold[0])
		s.untold = s.untold[1:]
	}
}

// read reads a board; within is called between the snapshot and the answer.
func (s *shelf) read(ctx context.Context, board string, atLeast freshet.Revision, within func()) (a Answer, got string, version uint64, err error) {
	req := dynamicpb.NewMessage(s.desc.Input())
	req.Set(req.Descriptor().Fields().ByName("board"), protoreflect.ValueOfString(board))
	a, err = s.made.Do(ctx, Read{
		Method: s.method, Request: req, Topics: topicsOf(s.method, req), AtLeast: atLeast,
		Query: func(_ context.Context, since Since) (connect.AnyResponse, freshet.Revision, error) {
			s.mu.Lock()
			text := fmt.Sprintf(`{"tasks":%s,"version":"%d"}`, s.answer(board), len(s.states)-1)
			s.mu.Unlock()
			within()
			res := dynamicpb.NewMessage(s.desc.Output())
			if err := protojson.Unmarshal([]byte(text), res); err != nil {
				return nil, since.Frontier, err
			}
			return connect.NewResponse(res), since.Frontier, nil
		},
	})
	if err != nil {
		return a, "", 0, err
	}
	res := a.Response.Any().(*dynamicpb.Message)
	fields := res.Descriptor().Fields()
	version = uint64(res.Get(fields.ByName("version")).Int())
	return a, s.at(version, board), version, nil
}

func (s *shelf) at(version uint64, board string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[version][board]
}

// check holds an answer against what there was: it reaches what was asked for, and
// nothing up to its stamp has made it another one (G6).
func (s *shelf) check(board string, asked freshet.Revision, a Answer, got string, version uint64) error {
	if a.Stamp.Less(asked) {
		return fmt.Errorf("asked at-least %v, stamped %v (%s)", asked, a.Stamp, a.From)
	}
	if stamped := a.Stamp.Position - 100; stamped > version {
		if now := s.at(stamped, board); now != got {
			return fmt.Errorf("stamped %v (%s): the answer is %s of version %d, and was %s then", a.Stamp, a.From, got, version, now)
		}
	}
	return nil
}

// What only the answer names has its say on it: a kept answer isn't given once an
// element of it has changed, and is while others do.
func TestAnswered_keptAnswers(t *testing.T) {
	s := newShelf(t, 2)
	s.move("t1", "b")
	s.tell()
	read := func(asked freshet.Revision) (Source, freshet.Revision) {
		a, got, version, err := s.read(t.Context(), "a", asked, func() {})
		require.NoError(t, err)
		require.NoError(t, s.check("a", asked, a, got, version))
		require.Equal(t, []string{"boards/a/tasks", "tasks/t0/comments"}, a.Topics)
		return a.From, a.Stamp
	}
	from, stamp := read(at(101))
	require.Equal(t, Miss, from)
	require.Equal(t, at(101), stamp)
	s.comment("t1") // of the other board
	s.tell()
	from, stamp = read(at(102))
	require.Equal(t, Hit, from)
	require.Equal(t, at(102), stamp, "proven unchanged")
	s.comment("t0")
	s.tell()
	from, stamp = read(at(103))
	require.Equal(t, Miss, from)
	require.Equal(t, at(103), stamp)
	kept, bytes := s.made.cache.size()
	require.Equal(t, 1, kept)
	require.Greater(t, bytes, answerOverhead+len("tasks/t0/comments"))
}

// A query that runs is no answer for who asks for more than it began at: what it
// will depend on isn't known yet, so nothing says that it hasn't changed.
func TestAnswered_runningQuery(t *testing.T) {
	s := newShelf(t, 1)
	inside, release := make(chan struct{}), make(chan struct{})
	type result struct {
		a       Answer
		got     string
		version uint64
		err     error
	}
	results := make(chan result, 2)
	go func() {
		a, got, version, err := s.read(t.Context(), "a", at(100), func() { close(inside); <-release })
		results <- result{a, got, version, err}
	}()
	waitFor(t, inside, "the query")
	s.comment("t0") // of no topic of the request
	s.tell()
	go func() {
		a, got, version, err := s.read(t.Context(), "a", at(101), func() {})
		results <- result{a, got, version, err}
	}()
	require.Eventually(t, func() bool {
		s.made.flights.mu.Lock()
		defer s.made.flights.mu.Unlock()
		for _, l := range s.made.flights.lanes {
			if l.waiting != nil || l.running != nil && l.running.waiters > 1 {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
	close(release)
	for range 2 {
		r := waitFor(t, results, "an answer")
		require.NoError(t, r.err)
		asked := at(100)
		if r.version > 0 {
			asked = at(101)
		}
		require.NoError(t, s.check("a", asked, r.a, r.got, r.version))
		require.Equal(t, at(100+r.version), r.a.Stamp)
	}
}

// F54: a topic of the answer in quarantine is as one of the request.
func TestAnswered_F54_quarantine(t *testing.T) {
	s := newShelf(t, 1)
	read := func() Answer {
		a, _, _, err := s.read(t.Context(), "a", at(100), func() {})
		require.NoError(t, err)
		return a
	}
	require.Equal(t, Miss, read().From)
	require.Equal(t, Hit, read().From)
	s.hub.Quarantine([]freshet.Pattern{"tasks/*/comments"})
	for range 2 {
		a := read()
		require.Equal(t, Miss, a.From)
		require.True(t, a.Unkept)
	}
}

// An answer that doesn't say what it depends on is none: nobody could follow it, and
// nobody could tell when a kept one is over.
func TestAnswered_unspellable(t *testing.T) {
	s := newShelf(t, 1)
	for _, alone := range []bool{false, true} {
		req := dynamicpb.NewMessage(s.desc.Input())
		_, err := s.made.Do(t.Context(), Read{
			Method: s.method, Request: req, Topics: topicsOf(s.method, req), AtLeast: at(100), Alone: alone,
			Query: func(_ context.Context, since Since) (connect.AnyResponse, freshet.Revision, error) {
				return connect.NewResponse(dynamicpb.NewMessage(s.desc.Input())), since.Frontier, nil
			},
		})
		require.ErrorContains(t, err, "answers with a Response")
	}
	kept, _ := s.made.cache.size()
	require.Zero(t, kept)
}

// Rows move and change while many read, some of what they see not told yet: no
// answer is stamped above what it holds, and none is below what was asked for.
func TestAnswered_model(t *testing.T) {
	const readers, seconds = 8, 2
	s := newShelf(t, 6)
	ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			task := fmt.Sprint("t", rand.N(6))
			if rand.N(3) == 0 {
				s.move(task, []string{"a", "b"}[rand.N(2)])
			} else {
				s.comment(task)
			}
			time.Sleep(rand.N(300 * time.Microsecond)) // the model's own pace, no wait for anything
		}
	})
	all.Go(func() {
		for ctx.Err() == nil {
			s.tell()
			time.Sleep(rand.N(200 * time.Microsecond))
		}
	})
	failed := make(chan error, readers)
	counts := make([]map[Source]int, readers)
	for i := range readers {
		counts[i] = make(map[Source]int)
		all.Go(func() {
			for ctx.Err() == nil {
				board, asked := []string{"a", "b"}[rand.N(2)], s.hub.Frontier()
				if back := rand.N(uint64(4)); rand.N(2) == 0 && asked.Position > 100+back {
					asked.Position -= back
				}
				a, got, version, err := s.read(ctx, board, asked, func() { time.Sleep(rand.N(200 * time.Microsecond)) })
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					err = s.check(board, asked, a, got, version)
				}
				if err != nil {
					failed <- err
					cancel()
					return
				}
				counts[i][a.From]++
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		require.NoError(t, err)
	default:
	}
	total := make(map[Source]int)
	for _, c := range counts {
		for from, n := range c {
			total[from] += n
		}
	}
	t.Log(total)
	for _, from := range []Source{Hit, Joined, Miss} {
		require.NotZero(t, total[from], from)
	}
}
