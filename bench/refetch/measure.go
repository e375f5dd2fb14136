//go:build linux

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/bench/rig"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// What is compared.
const (
	ours  = "freshet"
	kept  = "freshet, again" // right after, without another write
	plain = "static"
	sized = "static, sized"
)

var servers = []string{ours, kept, plain, sized}

// format is one way to ask for the page.
type format struct {
	name      string
	file      string // what a profile is called
	mime      string
	gzip      bool
	marshal   func(proto.Message) ([]byte, error)
	unmarshal func([]byte, proto.Message) error
}

var formats = []format{
	{"JSON", "json", "application/json", false, protojson.Marshal, protojson.Unmarshal},
	{"JSON, gzip", "json-gzip", "application/json", true, protojson.Marshal, protojson.Unmarshal},
	{"protobuf", "protobuf", "application/proto", false, proto.Marshal, proto.Unmarshal},
	{"protobuf, gzip", "protobuf-gzip", "application/proto", true, proto.Marshal, proto.Unmarshal},
}

// measured is one burst.
type measured struct {
	Server     string  `json:"server"`
	CPUMicros  float64 `json:"cpu_micros"` // of the server, per answer
	LastMillis float64 `json:"last_millis"`
	Bytes      int     `json:"bytes"`      // of the body
	Statements int     `json:"statements"` // of Freshet's
}

// measure is one format in one round: a write, and a burst to each server. turn
// rotates who is first.
func (b *bench) measure(ctx context.Context, f format, turn int) ([]measured, error) {
	if _, ok := b.said[f.name]; !ok {
		turn = 0 // there is nothing yet that the others could say
	}
	var all []measured
	turns := [][]string{{ours, kept}, {plain}, {sized}}
	for i := range turns {
		for _, name := range turns[(i+turn)%len(turns)] {
			m, err := b.burst(ctx, f, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, m)
		}
	}
	return all, nil
}

func (b *bench) burst(ctx context.Context, f format, name string) (m measured, err error) {
	var t tally
	var used time.Duration
	if name == ours || name == kept {
		before, err := b.database.reads(ctx)
		if err != nil {
			return m, err
		}
		if t, used, err = b.refetch(ctx, f, name == ours); err != nil {
			return m, err
		}
		after, err := b.database.reads(ctx)
		if err != nil {
			return m, err
		}
		m.Statements = after - before
	} else {
		said := b.said[f.name]
		if _, err := b.static.Do(like(said.Header, said.Body, name == sized)); err != nil {
			return m, err
		}
		// The revision is any: it has the length of a real one.
		if t, used, err = b.ask(ctx, name, b.static.PID, f, freshet.Revision{Epoch: 1}); err != nil {
			return m, err
		}
		if !bytes.Equal(t.Body, said.Body) {
			return m, errors.New("other bytes than Freshet's")
		}
	}
	m.Server, m.Bytes = name, t.Length
	m.CPUMicros = float64(used.Nanoseconds()) / 1e3 / float64(t.Answers)
	m.LastMillis = float64(t.Last.Nanoseconds()) / 1e6
	return m, nil
}

// refetch is what this is about: a write, its notice, and everybody asks. Without
// another write, everybody asks again.
func (b *bench) refetch(ctx context.Context, f format, write bool) (t tally, used time.Duration, err error) {
	if write {
		if b.written, err = b.database.write(ctx); err != nil {
			return t, 0, err
		}
		if b.rev, err = b.notices.next(); err != nil {
			return t, 0, err
		}
	}
	if t, used, err = b.ask(ctx, ours, b.server.PID, f, b.rev); err != nil {
		return t, 0, err
	}
	header, err := headerOf(t.Head)
	if err != nil {
		return t, 0, err
	}
	b.said[f.name] = answer{Header: header, Body: t.Body}
	return t, used, f.verify(header, t.Body, b.written)
}

// ask is a burst, and the CPU time that the server's process has used for it.
// What the server does right after its last write belongs to it.
func (b *bench) ask(ctx context.Context, name string, pid int, f format, rev freshet.Revision) (t tally, used time.Duration, err error) {
	const after = 20 * time.Millisecond
	request, err := f.request(b.at[name], rev)
	if err != nil {
		return t, 0, err
	}
	before, err := rig.RanFor(pid)
	if err != nil {
		return t, 0, err
	}
	if t, err = b.drive(order{Ask: &asking{b.at[name], request}}); err != nil {
		return t, 0, err
	}
	rig.Wait(ctx, after)
	total, err := rig.RanFor(pid)
	return t, total - before, errors.Join(err, ctx.Err())
}

// request is what a browser sends, without what only a browser adds.
func (f *format) request(host string, rev freshet.Revision) ([]byte, error) {
	body, err := f.marshal(&messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation, PageSize: pageSize})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
		messagesv1connect.MessageServiceListMessagesProcedure, host, f.mime, len(body))
	fmt.Fprintf(&b, "Connect-Protocol-Version: 1\r\nFreshet-At-Least: %v\r\n", rev)
	if f.gzip {
		b.WriteString("Accept-Encoding: gzip\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), nil
}

func headerOf(head []byte) (http.Header, error) {
	_, fields, _ := bytes.Cut(head, []byte("\r\n")) // the status line
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(fields))).ReadMIMEHeader()
	return http.Header(header), err
}

// verify proves that an answer is a page with the written message on top.
func (f *format) verify(header http.Header, body []byte, written string) error {
	if got := header.Get("Content-Encoding") == "gzip"; got != f.gzip {
		return fmt.Errorf("Content-Encoding: %q", header.Get("Content-Encoding"))
	}
	if f.gzip {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(z); err != nil {
			return err
		}
	}
	var page messagesv1.ListMessagesResponse
	if err := f.unmarshal(body, &page); err != nil {
		return err
	}
	if n := len(page.GetMessages()); n != pageSize || page.GetMessages()[0].GetName() != written {
		return fmt.Errorf("%d messages without %s on top", n, written)
	}
	return nil
}
