package auth

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet-dev/freshet/internal/lru"
)

const (
	// burstSeconds is for how many seconds' worth tokens may be bad at once.
	burstSeconds = 10
	// ownPerSecond and ownBurst are how many bad tokens may name a principal that has
	// been here, above what their caller may have.
	ownPerSecond = 1
	ownBurst     = 10
	// maxCallers and maxPrincipals are how many of each are remembered.
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
	callers    buckets[string]
	principals buckets[principal] // of those who have had a good token
}

// principal is somebody as a token names them.
type principal struct{ issuer, subject string }

func newFailures(perSecond int) failures {
	return failures{
		callers:    newBuckets[string](rate.Limit(perSecond), perSecond*burstSeconds, maxCallers),
		principals: newBuckets[principal](ownPerSecond, ownBurst, maxPrincipals),
	}
}

// budget returns whom a bad token is charged to; nil: it isn't to be looked into. The
// bucket may be empty by the time it is charged: those that are looked into at the
// same moment are as many as there are CPUs.
func (f *failures) budget(caller string, named principal, now time.Time) *rate.Limiter {
	of := f.callers.of(caller)
	if hasSome(of, now) {
		return of
	}
	if of, known := f.principals.all.Get(named); known && hasSome(of, now) {
		return of
	}
	return nil
}

func hasSome(bucket *rate.Limiter, now time.Time) bool { return bucket.TokensAt(now) >= 1 }

// buckets are token buckets by whose they are.
type buckets[K comparable] struct {
	each  rate.Limit
	burst int
	all   *lru.Cache[K, *rate.Limiter]
}

// bucketBytes is what a bucket costs in memory, about.
const bucketBytes = 256

func newBuckets[K comparable](each rate.Limit, burst, most int) buckets[K] {
	return buckets[K]{each, burst, lru.New[K, *rate.Limiter](most * bucketBytes)}
}

// of returns somebody's bucket.
func (b *buckets[K]) of(who K) *rate.Limiter {
	return b.all.GetOrPut(who, bucketBytes, func() *rate.Limiter { return rate.NewLimiter(b.each, b.burst) })
}
