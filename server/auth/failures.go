package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstSeconds is for how many seconds' worth tokens may be bad at once.
	burstSeconds = 10
	// ownPerSecond and ownBurst are how many bad tokens may name a principal that has
	// been here, above what their caller may have.
	ownPerSecond = 1
	ownBurst     = 10
	// maxCallers and maxPrincipals are how many of each are remembered; above it, any
	// one is forgotten for a new one.
	maxCallers    = 16_384
	maxPrincipals = 8192
)

// failures bound how often we look into tokens in vain: who sends bad ones is at less
// expense than we are with their signatures.
//
// Many people may have one address, and those among them whose tokens are good must not
// be shut out by one whose tokens aren't. So tokens that were found good before are let
// through ahead of this (see kept), and a new one of a principal who has had a good
// token here is looked into though the address has no more to spend: bad ones in that
// name have a bound of their own. Only somebody who hasn't been here, at an address
// that sends bad tokens without end, may have to try more than once. Good tokens cost
// nothing.
type failures struct {
	callers    buckets
	principals buckets // of those who have had a good token
}

// principal is somebody as a token names them.
type principal struct{ issuer, subject string }

func newFailures(perSecond int) failures {
	return failures{
		callers:    buckets{each: rate.Limit(perSecond), burst: perSecond * burstSeconds, most: maxCallers},
		principals: buckets{each: ownPerSecond, burst: ownBurst, most: maxPrincipals},
	}
}

// budget returns whom a bad token is charged to; nil: it isn't to be looked into. The
// bucket may be empty by the time it is charged: those that are looked into at the
// same moment are as many as there are CPUs.
func (f *failures) budget(caller string, named principal, now time.Time) *rate.Limiter {
	of := f.callers.of(caller, true)
	if hasSome(of, now) {
		return of
	}
	if of = f.principals.of(named, false); of != nil && hasSome(of, now) {
		return of
	}
	return nil
}

func hasSome(bucket *rate.Limiter, now time.Time) bool { return bucket.TokensAt(now) >= 1 }

// buckets are token buckets by whose they are.
type buckets struct {
	each  rate.Limit
	burst int
	most  int

	mu  sync.Mutex // guards all
	all map[any]*rate.Limiter
}

// of returns somebody's bucket; nil: there is none, and it isn't to be made.
func (b *buckets) of(who any, create bool) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	bucket := b.all[who]
	if bucket != nil || !create {
		return bucket
	}
	for other := range b.all { // in no order
		if len(b.all) < b.most {
			break
		}
		delete(b.all, other)
	}
	if b.all == nil {
		b.all = map[any]*rate.Limiter{}
	}
	bucket = rate.NewLimiter(b.each, b.burst)
	b.all[who] = bucket
	return bucket
}
