package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// Each contract that nodes have followed a database with is recorded among the
// fingerprints, under a name that no table has, so that nodes of one version know
// which topics only those of another tell.
const versionPrefix = "contract/"

// VersionName is the key of a contract's record in freshet.fingerprint.
func VersionName(hash string) string { return versionPrefix + hash }

// VersionLock returns the two numbers of the advisory lock that each node with this
// contract holds, shared, while it follows a database.
func VersionLock(hash string) (class, key int32) {
	n, _ := strconv.ParseUint(hash[:8], 16, 32) // of contract.Program.Hash, which is hex digits
	return versionLockClass, int32(n)           //nolint:gosec // any number will do
}

const versionLockClass = 0x46726576 // "Frev"

// Version is a contract that nodes have followed this database with.
type Version struct {
	Contract string // its contract.Program.Hash
	Emits    []contract.Emission
	Alive    bool // a node with it is connected
}

// Foreign returns the patterns of topics that nodes with this contract emit, and that
// nodes of program, which emit something else, must not be silent about: of those that
// both have, by templates that differ, while one lives.
func (v *Version) Foreign(program *contract.Program) (floors []freshet.Pattern) {
	own := program.Emissions()
	for _, e := range v.Emits {
		shared := slices.ContainsFunc(own, func(o contract.Emission) bool { return o.Floor == e.Floor })
		if !slices.Contains(own, e) && (v.Alive || !shared) && !slices.Contains(floors, e.Floor) {
			floors = append(floors, e.Floor)
		}
	}
	return floors
}

// Versions returns the contracts that are recorded, but for the one with this hash,
// in tx's snapshot. A record that can't be read is one without emissions.
func Versions(ctx context.Context, tx pgx.Tx, but string) ([]Version, error) {
	rows, err := tx.Query(ctx, `
select substr(source, length($1) + 1), value, exists (
  select from pg_locks where locktype = 'advisory' and granted and classid::bigint = $2 and objsubid = 2
    and objid::bigint = ('x' || substr(source, length($1) + 1, 8))::bit(32)::bigint
    and database = (select oid from pg_database where datname = current_database()))
from freshet.fingerprint where source ~ ('^' || $1 || '[0-9a-f]{32}$') and source <> $1 || $3 order by source`, versionPrefix, versionLockClass, but)
	if err != nil {
		return nil, fmt.Errorf("look up the versions of the contract: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v Version, err error) {
		var value string
		if err := row.Scan(&v.Contract, &value, &v.Alive); err != nil {
			return v, err
		}
		if json.Unmarshal([]byte(value), &v.Emits) != nil {
			v.Emits = nil
		}
		return v, nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up the versions of the contract: %w", err)
	}
	return all, nil
}
