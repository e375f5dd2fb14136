package setup

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/internal/primary"
)

// hostTimeout bounds the look at one host.
const hostTimeout = 5 * time.Second

// CheckHosts looks at the hosts of a URL beside the primary: could a node follow each,
// once it is promoted? What it finds are warnings. With one host there is nothing to
// look at. The role is to be the one that captures. The error is a failure to look at
// the primary.
func CheckHosts(ctx context.Context, url string) ([]Problem, error) {
	config, err := ParseConfig(url)
	if err != nil {
		return nil, err
	}
	all := primary.Each(config)
	if len(all) < 2 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(all)+1)*hostTimeout)
	defer cancel()
	leads, err := primary.NewFinder(nil).Narrow(ctx, config)
	if err != nil {
		return nil, err
	}
	first, err := lookAtHost(ctx, leads)
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, host := range all {
		if host.Host == leads.Host && host.Port == leads.Port {
			continue
		}
		there, err := lookAtHost(ctx, host)
		at := net.JoinHostPort(host.Host, strconv.Itoa(int(host.Port)))
		warn := func(text string, sql ...string) {
			problems = append(problems, Problem{Warning: true, Text: "the host " + at + " " + text, SQL: sql})
		}
		switch {
		case err != nil:
			warn(fmt.Sprintf("can't be looked at, and a node could not follow it after a failover: %v", err))
			continue
		case there.system != first.system:
			warn("isn't a standby of the primary: it has another system identifier")
			continue
		case !there.standby:
			warn("is a primary too, which the one that is used has left behind: stop it, or make a standby of it; what is written there is lost")
			continue
		}
		if there.level != "logical" {
			warn("has wal_level = " + there.level + ": after a failover to it nothing could be captured; set wal_level = logical there, and restart it")
		}
		if there.slots < first.slots || there.senders < first.senders {
			warn(fmt.Sprintf("has max_replication_slots = %d and max_wal_senders = %d, the primary %d and %d: after a failover nodes may find none free",
				there.slots, there.senders, first.slots, first.senders))
		}
		if err := tryWalsender(ctx, host); err != nil {
			warn(fmt.Sprintf("lets the role %s in, but not for replication, as its pg_hba.conf says or for want of a free walsender: %v", host.User, err))
		}
	}
	return problems, nil
}

// hostState is what a server says of itself.
type hostState struct {
	standby        bool
	system, level  string
	slots, senders int
}

func lookAtHost(ctx context.Context, config *pgx.ConnConfig) (h hostState, err error) {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return h, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	err = conn.QueryRow(ctx, `
select pg_is_in_recovery(), (select system_identifier::text from pg_control_system()), current_setting('wal_level'),
  current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int`).
		Scan(&h.standby, &h.system, &h.level, &h.slots, &h.senders)
	return h, err
}

// tryWalsender opens a connection for replication, as the feed does.
func tryWalsender(ctx context.Context, config *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	config = config.Copy()
	config.RuntimeParams["replication"] = "database"
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // a walsender knows no other
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
