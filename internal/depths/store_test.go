package depths

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// tools work on the pgx.Tx that the store hands out: depth (c).
var tools = map[string]func(db *store.DB) storage{
	"sqlc":    overSQLC,
	"batches": overBatches,
	"COPY":    overCopy,
}

// overStore is the storage that the tools vary: plain statements.
func overStore(db *store.DB) storage {
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return insertOn(ctx, tx, *m) })
		},
		remove: func(ctx context.Context, m Message) error {
			return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return removeOn(ctx, tx, m) })
		},
		list: func(ctx context.Context, conversation string) (list []Message, err error) {
			err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
				list, err = listOn(ctx, tx, conversation)
				return err
			})
			return list, err
		},
	}
}

func insertOn(ctx context.Context, tx pgx.Tx, m Message) error {
	_, err := tx.Exec(ctx, insertSQL, m.ID, m.Conversation, m.Author, m.Body)
	return err
}

func removeOn(ctx context.Context, tx pgx.Tx, m Message) error {
	_, err := tx.Exec(ctx, removeSQL, m.Conversation, m.ID)
	return err
}

func listOn(ctx context.Context, tx pgx.Tx, conversation string) ([]Message, error) {
	rows, err := tx.Query(ctx, listSQL, conversation)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Message])
}

// overSQLC runs what sqlc has generated from the message service's queries.
func overSQLC(db *store.DB) storage {
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				row, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: m.Conversation, Author: m.Author, Body: m.Body})
				m.ID = row.ID.String()
				return err
			})
		},
		remove: func(ctx context.Context, m Message) error {
			return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				removed, err := messagesdb.New(tx).DeleteMessage(ctx, messagesdb.DeleteMessageParams{Conversation: m.Conversation, ID: uuid.MustParse(m.ID)})
				if err == nil && removed != 1 {
					err = pgx.ErrNoRows
				}
				return err
			})
		},
		list: func(ctx context.Context, conversation string) (list []Message, err error) {
			err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
				rows, err := messagesdb.New(tx).ListMessages(ctx, messagesdb.ListMessagesParams{Conversation: conversation, RowLimit: 1000})
				list = nil
				for _, row := range rows {
					list = append(list, Message{ID: row.ID.String(), Conversation: row.Conversation, Author: row.Author, Body: row.Body})
				}
				return err
			})
			return list, err
		},
	}
}

// overBatches sends several statements at once, and reads two that must have one
// snapshot.
func overBatches(db *store.DB) storage {
	inBatch := func(ctx context.Context, statements func(*pgx.Batch)) error {
		return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			batch := new(pgx.Batch)
			statements(batch)
			return tx.SendBatch(ctx, batch).Close()
		})
	}
	return storage{
		insert: func(ctx context.Context, m *Message) error {
			return inBatch(ctx, func(batch *pgx.Batch) {
				batch.Queue(insertSQL, m.ID, m.Conversation, "nobody yet", m.Body)
				batch.Queue("update messages set author = $1 where id = $2", m.Author, m.ID).Exec(func(tag pgconn.CommandTag) error {
					if tag.RowsAffected() != 1 {
						return errors.New("the batch's second statement doesn't see its first")
					}
					return nil
				})
			})
		},
		remove: func(ctx context.Context, m Message) error {
			return inBatch(ctx, func(batch *pgx.Batch) { batch.Queue(removeSQL, m.Conversation, m.ID) })
		},
		list: func(ctx context.Context, conversation string) (list []Message, err error) {
			err = db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				count := 0
				batch := new(pgx.Batch)
				batch.Queue("select count(*) from messages where conversation = $1", conversation).QueryRow(func(row pgx.Row) error { return row.Scan(&count) })
				batch.Queue(listSQL, conversation).Query(func(rows pgx.Rows) (err error) {
					list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Message])
					return err
				})
				if err := tx.SendBatch(ctx, batch).Close(); err != nil {
					return err
				}
				if count != len(list) {
					return fmt.Errorf("two snapshots: %d messages are counted, and %d listed", count, len(list))
				}
				return nil
			})
			return list, err
		},
	}
}

// overCopy writes by COPY alone: nothing but it may tell the transaction's id.
func overCopy(db *store.DB) storage {
	s := overStore(db)
	s.insert = func(ctx context.Context, m *Message) error {
		return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.CopyFrom(ctx, pgx.Identifier{"messages"}, []string{"id", "conversation", "author", "body"},
				pgx.CopyFromRows([][]any{{m.ID, m.Conversation, m.Author, m.Body}}))
			if err == nil && rows != 1 {
				err = fmt.Errorf("%d rows copied", rows)
			}
			return err
		})
	}
	return s
}

// G5, G6: a service on the store, with the tools that work on its transaction.
func TestDepth_store(t *testing.T) {
	for name, over := range tools {
		t.Run(name, func(t *testing.T) {
			stress(t, serve(t, testkit.Migrated(t), func(n *server.Node) storage { return over(n.DB()) }))
		})
	}
}

// G5, G6: savepoints. What was rolled back to one is in no answer, and what was
// written before and after is.
func TestDepth_savepoints(t *testing.T) {
	var mu sync.Mutex
	var discarded []Message
	n := serve(t, testkit.Migrated(t), func(n *server.Node) storage {
		db := n.DB()
		s := overStore(db)
		s.insert = func(ctx context.Context, m *Message) error {
			gone := Message{ID: uuid.NewString(), Conversation: m.Conversation, Author: "nobody", Body: "never to be seen"}
			mu.Lock()
			discarded = append(discarded, gone)
			mu.Unlock()
			return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return insertBesides(ctx, tx, *m, gone) })
		}
		return s
	})
	n.discarded = func() []Message {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(discarded)
	}
	stress(t, n)
}

var errDiscard = errors.New("discard")

// insertBesides inserts m in a savepoint that is kept, between one that is
// rolled back by its function and one in it that a statement fails in.
func insertBesides(ctx context.Context, tx pgx.Tx, m, gone Message) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if err := insertOn(ctx, tx, gone); err != nil {
			return err
		}
		return errDiscard
	})
	if !errors.Is(err, errDiscard) {
		return fmt.Errorf("roll back to a savepoint: %w", err)
	}
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if err := insertOn(ctx, tx, m); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			if err := insertOn(ctx, tx, gone); err != nil {
				return err
			}
			return insertOn(ctx, tx, m) // its id is taken
		})
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "23505" {
			return fmt.Errorf("a second message of that id: %w", err)
		}
		return nil
	})
}
