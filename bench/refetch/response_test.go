//go:build linux

package main

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
)

// However the network cuts a response, it is read alike, and the next one too.
func TestResponse_anyPieces(t *testing.T) {
	for name, text := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 11\r\n\r\nhello world",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
		"empty":  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			want := "hello world"
			if name == "empty" {
				want = ""
			}
			r := &response{keep: true}
			for size := 1; size <= len(text); size++ {
				r.begin()
				for rest := text; rest != ""; {
					piece := rest[:min(size, len(rest))]
					rest = rest[len(piece):]
					done, err := r.feed([]byte(piece))
					require.NoError(t, err)
					require.Equal(t, rest == "", done)
				}
				require.Equal(t, want, string(r.body))
				require.Equal(t, len(want), r.length)
				require.Equal(t, crc32.Checksum([]byte(want), castagnoli), r.sum)
			}
		})
	}
}

func TestResponse_refuses(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, text := range []string{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
		chunked + "z\r\n", chunked + "ffffffff\r\n", chunked + "1\r\nxy\r\n", chunked + "0\r\nA: b\r\n",
	} {
		done, err := new(response).feed([]byte(text))
		require.ErrorIs(t, err, errResponse, text)
		require.False(t, done)
	}
}
