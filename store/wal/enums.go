package wal

import (
	"maps"
	"sync/atomic"
)

// enums are the types of columns that are known to be enums, or domains over one.
// The stream doesn't say what a type is, so the catalog is asked, by whoever looks at
// it anyway; the decoder asks here. A type never becomes another one, so what is
// known only grows. The zero value knows none. Safe for concurrent use.
type enums struct {
	known atomic.Pointer[map[uint32]struct{}] // replaced, never changed
}

// add takes in OIDs.
func (e *enums) add(oids []uint32) {
	for {
		before := e.known.Load()
		after := make(map[uint32]struct{}, len(oids))
		if before != nil {
			maps.Copy(after, *before)
		}
		size := len(after)
		for _, oid := range oids {
			after[oid] = struct{}{}
		}
		if len(after) == size || e.known.CompareAndSwap(before, &after) {
			return
		}
	}
}

// all returns what is known; it is not to be changed.
func (e *enums) all() map[uint32]struct{} {
	if known := e.known.Load(); known != nil {
		return *known
	}
	return nil
}
