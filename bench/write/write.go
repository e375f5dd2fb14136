package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const insertMessage = `insert into messages (id, conversation, author, body) values ($1, $2, 'bench', $3)`

// body is what every row carries: 200 bytes, an ordinary chat message.
const body = "A message as people write it: a sentence or two, long enough that rows and WAL records have a " +
	"usual size, short enough that nobody would store it elsewhere. This text has two hundred bytes in all, so."

// conversation is the i-th of those that are written to and polled.
func conversation(i int) string { return fmt.Sprintf("write-%d", i) }

// crowd is the writers of one cell, connected and waiting for their start.
type crowd struct {
	conns         []*pgx.Conn
	conversations int
	written       atomic.Int64 // COMMITs that have returned
}

// writerName tells the writers' sessions from those of whoever follows.
const writerName = "writer"

// gather connects before any clock runs: what a connection costs isn't a write's.
func gather(ctx context.Context, databaseURL string, writers, conversations int) (_ *crowd, err error) {
	c := &crowd{conversations: conversations}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = writerName
	for range writers {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect a writer: %w", err), c.close(ctx))
		}
		c.conns = append(c.conns, conn)
	}
	return c, nil
}

func (c *crowd) close(ctx context.Context) error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close(ctx))
	}
	return errors.Join(errs...)
}

// write has all of them write until enough ends; ctx bounds the commits under
// way at that time, which are finished, and counted.
func (c *crowd) write(ctx, enough context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for w, conn := range c.conns {
		first := w * c.conversations / len(c.conns) // spread out, so that they don't walk in step
		g.Go(func() error {
			for i := first; enough.Err() == nil && ctx.Err() == nil; i++ {
				if err := insert(ctx, conn, conversation(i%c.conversations)); err != nil {
					return err
				}
				c.written.Add(1)
			}
			return context.Cause(ctx)
		})
	}
	return g.Wait()
}

// insert commits one row: a statement alone is a transaction.
func insert(ctx context.Context, conn *pgx.Conn, conversation string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, insertMessage, id, conversation, body); err != nil {
		return fmt.Errorf("write a row: %w", err)
	}
	return nil
}
