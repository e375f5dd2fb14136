package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const insertMessage = `insert into messages (id, conversation, author, body) values ($1, $2, 'bench', $3)`

// body is what every row carries: 200 bytes, an ordinary chat message.
const body = "A message as people write it: a sentence or two, long enough that rows and WAL records have a " +
	"usual size, short enough that nobody would store it elsewhere. This text has two hundred bytes in all, so."

// writeMeasured commits rows on a connection of its own, each in a transaction
// of its own, about rate per second, until ctx ends. The gaps are exponential:
// a fixed gap would beat against the stream's throttle and timers. A row is due
// when it is due, however long the commit before it took.
func writeMeasured(ctx context.Context, databaseURL string, rate float64, b *book, written *atomic.Int64) (err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect the measured writer: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		// A commit under way is finished: half a sample would be lost.
		if err := writeSample(context.WithoutCancel(ctx), conn, b); err != nil {
			return err
		}
		written.Add(1)
		due = due.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		timer.Reset(time.Until(due))
	}
}

func writeSample(ctx context.Context, conn *pgx.Conn, b *book) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	s, err := b.begin(func(conversation string) string {
		return fmt.Sprintf("conversations/%s/messages/%s", conversation, id)
	})
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "begin"); err != nil {
		return fmt.Errorf("measured writer: %w", err)
	}
	if _, err := conn.Exec(ctx, insertMessage, id, s.conversation, body); err != nil {
		return fmt.Errorf("measured writer: %w", err)
	}
	sent := time.Now()
	_, err = conn.Exec(ctx, "commit")
	returned := time.Now()
	if err != nil {
		return fmt.Errorf("measured writer: %w", err)
	}
	b.committed(s, sent, returned)
	return nil
}

// writeBackground commits rows of other conversations from several connections,
// rate per second in all, until ctx ends. The load is open: a row is due when
// it is due, and one that is late is followed at once by the next.
func writeBackground(ctx context.Context, databaseURL string, writers int, rate float64, written *atomic.Int64) error {
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	gap := time.Duration(float64(writers) / rate * float64(time.Second))
	for w := range writers {
		due := start.Add(gap * time.Duration(w) / time.Duration(writers))
		g.Go(func() error { return writeSteadily(ctx, databaseURL, w, due, gap, written) })
	}
	return g.Wait()
}

func writeSteadily(ctx context.Context, databaseURL string, w int, due time.Time, gap time.Duration, written *atomic.Int64) (err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect a background writer: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		if _, err := conn.Exec(context.WithoutCancel(ctx), insertMessage, id, fmt.Sprintf("load-%d-%d", w, i%100), body); err != nil {
			return fmt.Errorf("background writer: %w", err)
		}
		written.Add(1)
		due = due.Add(gap)
		timer.Reset(time.Until(due))
	}
}
