package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/bench/rig"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/gen/messagesdb"
)

// variant is a way to learn of changes.
type variant struct {
	name   string
	about  string
	follow func(context.Context, *stage) (follower, error)
}

var variants = []variant{
	{"bare", "nobody follows the writes", func(context.Context, *stage) (follower, error) { return nobody{}, nil }},
	{"capture", "`freshet serve`, one stream of `messages`", followStream},
	{"notify", "a trigger that calls pg_notify per row, one listener", followNotifications},
	{"poll", "one client that lists each conversation once a second", followByPolling},
}

// inOrder is all variants, in an order that moves on with every turn: what the
// one before leaves behind in the machine meets each of them.
func inOrder(turn int) []variant {
	first := turn % len(variants)
	return slices.Concat(variants[first:], variants[:first])
}

// follower is whoever wants to know of what is written.
type follower interface {
	// run follows until ctx ends; it calls ready once, before which nothing is written.
	run(ctx context.Context, ready func()) error
	// told waits until all rows, of which written were committed, have been told;
	// false: that isn't this variant's way.
	told(ctx context.Context, written int64) (bool, error)
	// polls is how many queries it has made so far.
	polls() int64
	// serverPID is the server's process, or rig.None.
	serverPID() int
	// end takes back what was set up.
	end(ctx context.Context) error
}

// nobody follows.
type nobody struct{}

func (nobody) run(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}

func (nobody) told(context.Context, int64) (bool, error) { return false, nil }
func (nobody) polls() int64                              { return 0 }
func (nobody) serverPID() int                            { return rig.None }
func (nobody) end(context.Context) error                 { return nil }

// lastConversation is where the row goes whose notice says that all before it
// have been told.
const lastConversation = "last"

const lastTopic = "conversations/" + lastConversation + "/messages"

// stream is a server with one client.
type stream struct {
	nobody

	stage  *stage
	server *rig.Server
	client *client.Client
	last   chan struct{} // closed once lastTopic has been told
}

func followStream(ctx context.Context, s *stage) (follower, error) {
	server, err := rig.Start(ctx, s.Freshet, s.postgres.URL)
	if err != nil {
		return nil, err
	}
	f := &stream{stage: s, server: server, last: make(chan struct{})}
	if f.client, err = client.New(server.URL); err != nil {
		return nil, errors.Join(err, f.end(context.WithoutCancel(ctx)))
	}
	return f, nil
}

func (f *stream) serverPID() int { return f.server.PID }

func (f *stream) run(ctx context.Context, ready func()) error {
	last := sync.OnceFunc(func() { close(f.last) })
	err := f.client.Stream(ctx, []string{"messages", lastTopic}, func(e client.Event) error {
		switch e := e.(type) {
		case client.Ready:
			ready()
		case client.Invalidate:
			if slices.Contains(e.Topics, lastTopic) {
				last()
			}
		case client.Disconnected:
			return fmt.Errorf("the stream was cut while it was measured: %w", e.Err)
		case client.Reset:
			return errors.New("the epoch changed while it was measured")
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil // the end of the cell
	}
	return err
}

func (f *stream) told(ctx context.Context, _ int64) (bool, error) {
	if err := insert(ctx, f.stage.postgres.Admin, lastConversation); err != nil {
		return true, err
	}
	select {
	case <-f.last:
		return true, nil
	case <-ctx.Done():
		return true, fmt.Errorf("the last row isn't told: %w", context.Cause(ctx))
	}
}

func (f *stream) end(ctx context.Context) error {
	return errors.Join(f.server.Stop(), f.stage.postgres.TearDown(ctx))
}

const createTrigger = `
create function bench_notify() returns trigger language plpgsql as $$
begin
	perform pg_notify('messages', new.conversation || '/' || new.id);
	return null;
end $$;
create trigger bench_notify after insert on messages for each row execute function bench_notify()`

// listener is the trigger with one connection that listens.
type listener struct {
	nobody

	stage *stage
	heard atomic.Int64
	news  chan struct{} // of 1: heard has grown
}

func followNotifications(ctx context.Context, s *stage) (follower, error) {
	if _, err := s.postgres.Admin.Exec(ctx, createTrigger); err != nil {
		return nil, fmt.Errorf("create the trigger: %w", err)
	}
	return &listener{stage: s, news: make(chan struct{}, 1)}, nil
}

func (f *listener) run(ctx context.Context, ready func()) (err error) {
	conn, err := pgx.Connect(ctx, f.stage.postgres.URL)
	if err != nil {
		return fmt.Errorf("connect the listener: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "listen messages"); err != nil {
		return err
	}
	ready()
	for {
		if _, err := conn.WaitForNotification(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		f.heard.Add(1)
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
}

func (f *listener) told(ctx context.Context, written int64) (bool, error) {
	for f.heard.Load() < written {
		select {
		case <-f.news:
		case <-ctx.Done():
			return true, fmt.Errorf("%d of %d notifications: %w", f.heard.Load(), written, context.Cause(ctx))
		}
	}
	return true, nil
}

func (f *listener) end(ctx context.Context) error {
	_, err := f.stage.postgres.Admin.Exec(ctx, "drop function bench_notify cascade")
	return err
}

// poller lists conversations one after the other, each once a second: many
// clients, whose polls don't come all at once.
type poller struct {
	nobody

	stage *stage
	asked atomic.Int64
}

func followByPolling(_ context.Context, s *stage) (follower, error) { return &poller{stage: s}, nil }

func (f *poller) polls() int64 { return f.asked.Load() }

func (f *poller) run(ctx context.Context, ready func()) (err error) {
	conn, err := pgx.Connect(ctx, f.stage.postgres.URL)
	if err != nil {
		return fmt.Errorf("connect the client that polls: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	ready()
	const page = 50 // what the service lists unless asked for another number
	due, gap := time.Now(), time.Second/time.Duration(f.stage.Conversations)
	for i := 0; ; i++ {
		// A query is due when it is due, however long the one before it took.
		rig.Wait(ctx, time.Until(due))
		due = due.Add(gap)
		_, err := messagesdb.New(conn).ListMessages(ctx, messagesdb.ListMessagesParams{Conversation: conversation(i % f.stage.Conversations), RowLimit: page})
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		f.asked.Add(1)
	}
}
