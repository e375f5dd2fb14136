//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	conversation = "refetch"
	topic        = "conversations/" + conversation + "/messages"
	pageSize     = 50
)

// database is where rows are written, as by anybody, and where the server's
// statements are counted.
type database struct {
	conn   *pgx.Conn
	random *rand.Rand
}

func newDatabase(conn *pgx.Conn) *database {
	return &database{conn: conn, random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same text in every run
}

// openDatabase leaves the conversation with more than a page of messages.
func openDatabase(ctx context.Context, url string) (_ *database, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	d := newDatabase(conn)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if _, err := conn.Exec(ctx, `create extension pg_stat_statements`); err != nil {
		return nil, fmt.Errorf("%w (a part of PostgreSQL's contrib)", err)
	}
	for range pageSize + 1 {
		if _, err := d.write(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *database) close() error { return d.conn.Close(context.Background()) }

// write commits one message, and returns its name.
func (d *database) write(ctx context.Context) (name string, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	_, err = d.conn.Exec(ctx, `insert into messages (id, conversation, author, body) values ($1, $2, 'bench', $3)`, id, conversation, d.text())
	return fmt.Sprintf("conversations/%s/messages/%s", conversation, id), err
}

// text is an ordinary chat message: 200 bytes, which compress as words do.
func (d *database) text() string {
	var b strings.Builder
	for b.Len() < 200 {
		b.WriteString(words[d.random.IntN(len(words))] + " ")
	}
	return b.String()[:200]
}

var words = strings.Fields(`the a of to and in that it is was for on are with as they be at one have this from or had by but
what some we can out other were all there when up use your how said an each she which do their time if will way about many
then them write would like so these her long make thing see him two has look more day could go come did number sound no most
people over know water than call first who may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form sentence great think say
help low line differ turn cause much mean before move right boy old too same tell does set three want air well also play`)

// reads is how many statements have read messages for the server so far.
func (d *database) reads(ctx context.Context) (calls int, err error) {
	err = d.conn.QueryRow(ctx, `select coalesce(sum(calls), 0)::int from pg_stat_statements(true) s join pg_database d on d.oid = s.dbid
		where d.datname = current_database() and s.query ~ 'from messages' and s.query ~ '\mselect\M' and s.query !~ 'delete from'`).Scan(&calls)
	return calls, err
}
