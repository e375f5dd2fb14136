//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
)

// response reads one HTTP/1.1 response after the other, from pieces of any
// size. It keeps no body but counts and sums it: thousands are read at a time,
// and all are to be the same.
type response struct {
	keep bool // head and body, of this connection

	at     place
	head   []byte
	line   []byte
	left   int // of the body, or of the chunk
	length int
	sum    uint32 // CRC-32C of the body
	chunks bool
	body   []byte
}

// place is what comes next.
type place int

const (
	inHead place = iota
	inData
	inSize // the line before a chunk
	inEnd  // the empty line after a chunk
	inTrailer
	complete
)

var errResponse = errors.New("not a response that was expected")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// begin makes ready for the next response.
func (r *response) begin() {
	*r = response{keep: r.keep, head: r.head[:0], line: r.line[:0]}
}

// feed reads a piece, and reports whether the response is complete. Nobody asks
// twice without waiting, so nothing may follow it.
func (r *response) feed(data []byte) (done bool, err error) {
	for len(data) > 0 {
		switch r.at {
		case inHead:
			data, err = r.feedHead(data)
		case inData:
			data = r.feedBody(data)
		case inSize, inEnd, inTrailer:
			data, err = r.feedLine(data)
		case complete:
			err = fmt.Errorf("%w: %d bytes after the end", errResponse, len(data))
		}
		if err != nil {
			return false, err
		}
	}
	return r.at == complete, nil
}

func (r *response) feedHead(data []byte) (rest []byte, err error) {
	had := len(r.head)
	r.head = append(r.head, data...)
	end := bytes.Index(r.head[max(0, had-3):], []byte("\r\n\r\n"))
	if end < 0 {
		return nil, nil
	}
	end += max(0, had-3) + 4
	r.head = r.head[:end]
	if !bytes.HasPrefix(r.head, []byte("HTTP/1.1 200 ")) {
		return nil, fmt.Errorf("%w: %s", errResponse, bytes.TrimSpace(r.head))
	}
	rest = data[end-had:]
	// Go's servers write the canonical form of names.
	if bytes.Contains(r.head, []byte("\r\nTransfer-Encoding: chunked\r\n")) {
		r.chunks, r.at = true, inSize
		return rest, nil
	}
	_, after, ok := bytes.Cut(r.head, []byte("\r\nContent-Length: "))
	text, _, _ := bytes.Cut(after, []byte("\r\n"))
	if r.left, err = strconv.Atoi(string(text)); err != nil || !ok {
		return nil, fmt.Errorf("%w: no length: %s", errResponse, bytes.TrimSpace(r.head))
	}
	if r.at = inData; r.left == 0 {
		r.at = complete
	}
	return rest, nil
}

func (r *response) feedBody(data []byte) (rest []byte) {
	n := min(r.left, len(data))
	r.sum = crc32.Update(r.sum, castagnoli, data[:n])
	r.length += n
	if r.keep {
		r.body = append(r.body, data[:n]...)
	}
	switch r.left -= n; {
	case r.left > 0:
	case r.chunks:
		r.at = inEnd
	default:
		r.at = complete
	}
	return data[n:]
}

func (r *response) feedLine(data []byte) (rest []byte, err error) {
	line, rest, whole := bytes.Cut(data, []byte("\n"))
	r.line = append(r.line, line...)
	if !whole {
		return nil, nil
	}
	text := string(bytes.TrimRight(r.line, "\r"))
	r.line = r.line[:0]
	switch r.at {
	case inSize:
		size, err := strconv.ParseUint(text, 16, 32)
		if err != nil || size > math.MaxInt32 {
			return nil, fmt.Errorf("%w: a chunk of %q bytes", errResponse, text)
		}
		r.left = int(size)
		if r.at = inData; size == 0 {
			r.at = inTrailer
		}
	default:
		if text != "" {
			return nil, fmt.Errorf("%w: %q at a chunk's end", errResponse, text)
		}
		if r.at == inTrailer {
			r.at = complete
		} else {
			r.at = inSize
		}
	}
	return rest, nil
}
