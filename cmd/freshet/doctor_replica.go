package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/store"
	"github.com/freshet-dev/freshet/store/setup"
)

// replicas returns why serve would not read from standbys. The primary would, so
// capture works; but whoever names one wants to know.
func (c *doctorCmd) replicas(ctx context.Context) (problems []setup.Problem) {
	seen := map[string]bool{}
	for _, url := range c.ReplicaURL {
		config, err := setup.ParseConfig(url)
		switch {
		case url == "": // to pgx, whatever listens on this machine
			problems = append(problems, setup.Problem{Text: fmt.Sprintf("--replica-url: %v", noReplicaURL(errors.New("it is empty")))})
		case err != nil:
			problems = append(problems, setup.Problem{Text: fmt.Sprintf("--replica-url: %v", noReplicaURL(err))})
		case seen[at(config)]:
			problems = append(problems, setup.Problem{Text: fmt.Sprintf("--replica-url: name each standby once; %s is there twice", at(config))})
		default:
			seen[at(config)] = true
			problems = append(problems, c.replica(ctx, url, config)...)
		}
	}
	return problems
}

// noReplicaURL says what is wanted instead. (pgx leaves the password out.)
func noReplicaURL(err error) error {
	return fmt.Errorf("want a URL for each standby, as postgres://user:password@host:5432/name: %w", err)
}

func (c *doctorCmd) replica(ctx context.Context, url string, config *pgx.ConnConfig) []setup.Problem {
	err := store.CheckReplica(ctx, c.DatabaseURL, url)
	if err == nil {
		return nil
	}
	p := setup.Problem{Text: fmt.Sprintf("--replica-url: no read runs on the replica %s: %v. %s", at(config), err, replicaRemedy(err))}
	var why *store.ReplicaError
	p.Warning = !errors.As(err, &why) || why.Why == store.ReplicaUnproven // it can't be told yet
	if !p.Warning && why.Why == store.ReplicaPrivilege {
		p.By, p.SQL = "a superuser", []string{"grant pg_read_all_stats to " + pgx.Identifier{config.User}.Sanitize() + ";"}
	}
	return []setup.Problem{p}
}

// replicaRemedy says what to do about a replica that can't serve, in a sentence.
func replicaRemedy(err error) string {
	var why *store.ReplicaError
	if !errors.As(err, &why) {
		if errors.Is(err, store.ErrNoEpoch) {
			return "Have a node run on the primary, then ask again"
		}
		return "Ask again once the primary can be asked, too"
	}
	switch why.Why {
	case store.ReplicaPrimary:
		return "Leave it out, or name a streaming standby by its own address: a balancer's may lead to the primary"
	case store.ReplicaPromoted:
		return "Name a streaming standby by its own address, not a balancer's; one that was promoted has to be rebuilt as a standby of the primary (pg_rewind, or pg_basebackup -R)"
	case store.ReplicaHistory:
		return "If it is a standby of this primary, ask again when it has replayed what there is; otherwise name one that is, or rebuild it from this primary (pg_basebackup -R)"
	case store.ReplicaDetached:
		return "Its primary_conninfo, pg_stat_wal_receiver and log say why; one that is fed from an archive alone isn't used"
	case store.ReplicaPrivilege:
		return "This grant is replicated: it is for the primary to run"
	case store.ReplicaUnproven:
		return "Ask again in a moment"
	}
	return connectRemedy(err)
}

// connectRemedy says what to do where a connection could not be made.
func connectRemedy(err error) string {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return "Is it up, are host and port right, and may this machine reach it (listen_addresses, a firewall, TLS)?"
	}
	switch said.Code {
	case "28000", "28P01": // invalid_authorization_specification, invalid_password
		return "Roles and passwords are the primary's; pg_hba.conf is its own: it has to let this role in from here"
	case "3D000": // invalid_catalog_name
		return "Its databases are the primary's: give the name of that of --database-url"
	case "57P03": // cannot_connect_now
		return "It is starting, or hot_standby is off there: reads need it on"
	case "53300": // too_many_connections
		return "It has no connection left: raise its max_connections, or lower --replica-conns"
	}
	return "Its log says more"
}

// at is where a connection leads to.
func at(config *pgx.ConnConfig) string {
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}
