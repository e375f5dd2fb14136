package main

import (
	"context"
	"database/sql"
	"errors"

	"connectrpc.com/connect"

	notesv1 "example.com/notes/gen/notes/v1"
)

// schema is what the service needs of the database: a table in a schema of its
// own. It may be run again.
const schema = `
create schema if not exists notes;
create table if not exists notes.notes (
	board text not null,
	id bigint generated always as identity,
	body text not null,
	primary key (board, id)
);`

// notes is the service. It knows nothing of Freshet.
type notes struct{ db *sql.DB }

func (s *notes) AddNote(ctx context.Context, req *connect.Request[notesv1.AddNoteRequest]) (*connect.Response[notesv1.AddNoteResponse], error) {
	if req.Msg.GetBoard() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("board: must not be empty"))
	}
	note := &notesv1.Note{Board: req.Msg.GetBoard(), Text: req.Msg.GetText()}
	err := s.db.QueryRowContext(ctx, `insert into notes.notes (board, body) values ($1, $2) returning id`, note.GetBoard(), note.GetText()).Scan(&note.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&notesv1.AddNoteResponse{Note: note}), nil
}

func (s *notes) ListNotes(ctx context.Context, req *connect.Request[notesv1.ListNotesRequest]) (_ *connect.Response[notesv1.ListNotesResponse], err error) {
	if req.Msg.GetBoard() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("board: must not be empty"))
	}
	rows, err := s.db.QueryContext(ctx, `select id, body from notes.notes where board = $1 order by id`, req.Msg.GetBoard())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var answer notesv1.ListNotesResponse
	for rows.Next() {
		note := &notesv1.Note{Board: req.Msg.GetBoard()}
		if err := rows.Scan(&note.Id, &note.Text); err != nil {
			return nil, err
		}
		answer.Notes = append(answer.Notes, note)
	}
	return connect.NewResponse(&answer), rows.Err()
}
