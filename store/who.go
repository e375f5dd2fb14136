package store

import (
	"errors"
	"fmt"
	"strings"
)

// WhoSQL asks which database answers: one row with one text, which CheckWho
// compares. Whatever speaks SQL can send it, as any role; it changes nothing. A
// database without Freshet's tables answers with an error of its own.
//
// A copy of a database shares its system identifier and may share all else but
// the start of its server. The epoch is the last one given, which is logged and so
// can be read on a standby too.
const WhoSQL = `select concat_ws(' ', (select system_identifier from pg_control_system()),
  (select oid from pg_database where datname = current_database()),
  coalesce((select last from freshet.epoch), 0),
  (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
  case when pg_is_in_recovery() then 'standby' else 'primary' end)`

// ErrOtherDatabase says that a client of Postgres is connected to another database
// than Freshet captures from. What it reads is never told.
var ErrOtherDatabase = errors.New("another database")

// CheckWho compares an answer to WhoSQL with the one that the node's own connection
// got. The error says what is wrong with the connection that gave the answer: a
// standby (ErrStandby), another database (ErrOtherDatabase), or another run of
// the same one: a copy, a server that has been left behind by a failover, or one
// that has restarted in between (ErrEpoch).
func CheckWho(own, answer string) error {
	want, got := strings.Fields(own), strings.Fields(answer)
	if len(want) != len(whoFields) || len(got) != len(whoFields) {
		return fmt.Errorf("not an answer to WhoSQL: %.100q; this node's own connection got %.100q", answer, own)
	}
	if got[4] != "primary" {
		return fmt.Errorf("%w: the client is connected to a standby, which is behind the primary that Freshet captures from", ErrStandby)
	}
	for i, kind := range []error{ErrOtherDatabase, ErrOtherDatabase, ErrEpoch, ErrEpoch} {
		if got[i] != want[i] {
			return fmt.Errorf("%w: the %s is %s where the client is connected, and %s where Freshet captures from", kind, whoFields[i], got[i], want[i])
		}
	}
	return nil
}

// whoFields are the words of an answer to WhoSQL.
var whoFields = []string{"server's system identifier", "database's oid", "epoch", "server's start", "role"}
