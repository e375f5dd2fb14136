package store_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet/gen/messagesdb"
	"github.com/freshet-dev/freshet/store"
)

// What is handed out is a pgx.Tx, so a package that sqlc has generated takes it;
// and so do batches, COPY and savepoints.
func ExampleDB_InTx() {
	url, done := exampleDatabase()
	defer done()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		log.Print(err)
		return
	}
	defer db.Close()

	// The interceptors of the server put a call into the context of each request.
	call := new(store.Call)
	err = db.InTx(store.WithCall(ctx, call), func(ctx context.Context, tx pgx.Tx) error {
		created, err := messagesdb.New(tx).CreateMessage(ctx, messagesdb.CreateMessageParams{Conversation: "7", Author: "ann", Body: "hi"})
		if err != nil {
			return err // as it is: InTx rolls back
		}
		fmt.Println("created in", created.Conversation)

		batch := new(pgx.Batch)
		for _, body := range []string{"how", "are", "you?"} {
			batch.Queue("insert into messages (conversation, author, body) values ('7', 'ann', $1)", body).Exec(func(tag pgconn.CommandTag) error {
				fmt.Println(tag)
				return nil
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		log.Print(err)
		return
	}
	for _, o := range call.Outcomes() {
		fmt.Println("committed:", o.Committed, "wrote:", o.Xid != 0)
	}
	// Output:
	// created in 7
	// INSERT 0 1
	// INSERT 0 1
	// INSERT 0 1
	// committed: true wrote: true
}

func ExampleDB_Read() {
	url, done := exampleDatabase()
	defer done()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		log.Print(err)
		return
	}
	defer db.Close()
	var n int
	err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "select count(*) from messages").Scan(&n)
	})
	fmt.Println(n, err)
	// Output: 0 <nil>
}

func ExampleDB_ReadTx() {
	url, done := exampleDatabase()
	defer done()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		log.Print(err)
		return
	}
	defer db.Close()
	var messages, conversations int
	err = db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error { // both of one moment
		if err := tx.QueryRow(ctx, "select count(*) from messages").Scan(&messages); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select count(distinct conversation) from messages").Scan(&conversations)
	})
	fmt.Println(messages, conversations, err)
	// Output: 0 0 <nil>
}

// A service that keeps its own pool of pgx has it guarded before it is made.
func ExampleGuard() {
	url, done := exampleDatabase()
	defer done()
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		log.Print(err)
		return
	}
	store.Guard(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		log.Print(err)
		return
	}
	defer pool.Close()

	// A handler hands its context on, in which the interceptors have put the epoch.
	var n int
	err = pool.QueryRow(store.WithCall(ctx, &store.Call{Epoch: epoch}), "select count(*) from messages").Scan(&n)
	fmt.Println(n, err)
	_, err = pool.Exec(store.WithCall(ctx, &store.Call{Epoch: epoch + 1}), "select 1")
	fmt.Println(err)
	// Output:
	// 0 <nil>
	// database unavailable: another epoch
}
