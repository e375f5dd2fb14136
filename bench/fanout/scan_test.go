package fanout

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const response = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" +
	"7e\r\nretry: 1000\nid: 00000001-0000000000000001\nevent: ready\ndata: {\"revision\":\"00000001-0000000000000001\",\"topics\":1}\n\n\r\n" +
	"99\r\nid: 00000001-00000000000000ff\nevent: invalidate\ndata: {\"revision\":\"00000001-00000000000000ff\",\"topics\":[\"a\"],\"spread_ms\":0}\n\n\r\n" +
	"data: {\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{\"revision\":\"00000001-0000000000000100\",\"topics\":[\"a\"],\"spread_ms\":0}}}}\n\n" +
	": a comment\n\ndata: {\"spread_ms\":0,\"revision\":\"short\"}\n\n"

// However the bytes are cut, the same notices are found.
func TestScanner_findsNotices(t *testing.T) {
	want := []uint64{0xff, 0x100}
	for split := range len(response) {
		require.Equal(t, want, scan(response[:split], response[split:]), split)
	}
	var single []string
	for i := range len(response) {
		single = append(single, response[i:i+1])
	}
	require.Equal(t, want, scan(single...))
}

func TestConnect_spreadsPaths(t *testing.T) {
	spread := Connect{Path: "/?topic=a{}b", Spread: 3}
	require.Equal(t, []string{"/?topic=a0b", "/?topic=a2b", "/?topic=a1b"}, []string{spread.pathOf(0), spread.pathOf(2), spread.pathOf(4)})
	require.Equal(t, "/{}", (&Connect{Path: "/{}"}).pathOf(1))
}

func scan(parts ...string) (found []uint64) {
	var s scanner
	for _, part := range parts {
		s.feed([]byte(part), func(position uint64) { found = append(found, position) })
	}
	return found
}

func TestHistogram_quantiles(t *testing.T) {
	var h histogram
	require.Zero(t, h.quantile(0.99))
	for _, i := range rand.Perm(10_000) {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	h.add(-time.Second) // a clock that was set: counts as nothing
	for share, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond, 1: 10 * time.Millisecond} {
		require.InEpsilon(t, want, h.quantile(share), 0.033)
	}
	require.Equal(t, 10*time.Millisecond, h.max)
	require.Equal(t, uint64(10_001), h.total)
}

// Every value lies in a bucket whose top is not below it, by 1/32 at most.
func TestHistogram_buckets(t *testing.T) {
	for shift := range 62 {
		for _, v := range []uint64{1 << shift, 1<<shift + 1<<shift/3, 1<<(shift+1) - 1} {
			top := uint64(topOf(bucketOf(v)))
			require.GreaterOrEqual(t, top, v)
			require.LessOrEqual(t, top, v+v/32)
		}
	}
}
