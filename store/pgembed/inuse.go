package pgembed

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrInUse is what every *InUseError is.
var ErrInUse = errors.New("data directory is in use")

// InUseError is what Start says (wrapped) when another process, or another Server of this one, runs
// the same data directory. Who just wants to use that server asks it how to connect.
type InUseError struct {
	Process string // the process that runs it; empty: it has only just begun to
	site    *site  // without the lock
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%v: another freshet (process %s) runs the private PostgreSQL of %s, at %s; stop it, or choose another data directory (--data-dir)",
		ErrInUse, cmp.Or(e.Process, "unknown yet"), e.site.home, e.site.url(""))
}

// Is reports whether target is ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// Connect says how to connect to DefaultDatabase of the server that the other one runs. It may be asked
// at any time: the server may be starting yet, or be gone, and be there again, whoever starts it. It is
// an error if there is nothing to connect to, or the socket isn't in a folder of ours.
func (e *InUseError) Connect() (*pgx.ConnConfig, error) {
	if err := e.site.checkOwner(e.site.socketDir); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	return pgx.ParseConfig(e.site.url(""))
}
