package wal

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"
)

// Locks of the nodes that share a slot are advisory, of two numbers: lockClass, and
// a hash of the slot's name and of what the lock is for. Postgres has them by
// database. They are everybody's: whoever may connect can hold one. So nothing waits
// for one without end, and what would go wrong without them is at most done twice.
//
// They are taken on a connection that the server ends when it hears nothing for
// keepSilence, so that a node that is paused, or cut off, lets go in seconds; and
// they are asked for again and again, never waited for in the server, where a wait
// would outlive whoever has asked.
const lockClass = 0x46726573 // "Fres"

// What locks are for.
const (
	lockMaking  = "/making"  // exclusive: to make or drop the window; shared: to copy it
	lockKeeping = "/keeping" // to move it on
)

func lockKey(slot, purpose string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(slot + purpose))
	return int32(h.Sum32()) //nolint:gosec // any number will do
}

type lockMode string

const (
	exclusive lockMode = ""
	shared    lockMode = "_shared"
)

const (
	keepSilence  = "4s"        // after which the server ends a connection that may hold locks
	pingInterval = time.Second // how often it is to hear something
	lockPatience = 10 * time.Second
	lockAgain    = 20 * time.Millisecond
)

// lock takes the lock for making and copying. When somebody holds it for longer than
// a node would that is neither making a slot (which shows) nor paused, it goes on
// without.
func (s *session) lock(ctx context.Context, mode lockMode) (unlock func(), err error) {
	key := lockKey(s.f.cfg.Slot, lockMaking)
	for began := time.Now(); ; {
		var locked bool
		if err := s.keepConn.QueryRow(ctx, `select pg_try_advisory_lock`+string(mode)+`($1, $2)`, lockClass, key).Scan(&locked); err != nil {
			return nil, fmt.Errorf("lock the making of the slot: %w", err)
		}
		if locked {
			return func() {
				// If that fails, the connection does, and the lock goes with it.
				_, _ = s.keepConn.Exec(ctx, `select pg_advisory_unlock`+string(mode)+`($1, $2)`, lockClass, key)
			}, nil
		}
		if time.Since(began) >= lockPatience {
			s.log.LogAttrs(ctx, slog.LevelWarn, "somebody holds the advisory lock under which a replication slot is made; going on without",
				slog.String("slot", s.f.cfg.Slot), slog.Any("pids", s.holders(ctx, key)))
			return func() {}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockAgain):
		}
	}
}

// holders are the pids that hold a lock, for the log.
func (s *session) holders(ctx context.Context, key int32) (pids []int32) {
	_ = s.keepConn.QueryRow(ctx, `
select array(select pid from pg_locks where locktype = 'advisory' and granted and classid::bigint = $1 and objid::bigint = $2 and objsubid = 2
  and database = (select oid from pg_database where datname = current_database()) order by pid)`, lockClass, uint32(key)).Scan(&pids) //nolint:gosec // as pg_locks shows it
	return pids
}
