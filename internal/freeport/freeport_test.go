package freeport

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is given is free, of this process only, and nothing that the kernel gives to others.
func TestAddrs(t *testing.T) {
	all := map[string]bool{}
	for range 3 {
		addrs, err := Addrs("127.0.0.1", 20)
		require.NoError(t, err)
		require.Len(t, addrs, 20)
		for _, addr := range addrs {
			require.False(t, all[addr], addr)
			all[addr] = true
			_, text, err := net.SplitHostPort(addr)
			require.NoError(t, err)
			port, err := strconv.Atoi(text)
			require.NoError(t, err)
			require.GreaterOrEqual(t, port, first)
			require.Less(t, port, end)
			listener, err := net.Listen("tcp", addr)
			require.NoError(t, err)
			defer func() { require.NoError(t, listener.Close()) }()
		}
	}
}

// A port that is taken is passed over, also at the end of the range.
func TestAddrs_taken(t *testing.T) {
	defer func(was int) { next = was }(next)
	addrs, err := Addrs("127.0.0.1", 2)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", addrs[1])
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	_, port, err := net.SplitHostPort(addrs[1])
	require.NoError(t, err)
	taken, err := strconv.Atoi(port)
	require.NoError(t, err)

	next = taken - first
	again, err := Addrs("127.0.0.1", 1)
	require.NoError(t, err)
	require.NotEqual(t, addrs[1], again[0])

	next = end - first - 1
	two, err := Addrs("127.0.0.1", 2)
	require.NoError(t, err)
	require.NotEqual(t, two[0], two[1])
}

func TestAddrs_noHost(t *testing.T) {
	_, err := Addrs("192.0.2.1", 1) // nobody's (RFC 5737)
	require.ErrorIs(t, err, errNone)
}
