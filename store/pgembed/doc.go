// Package pgembed runs a private PostgreSQL server: what `freshet serve` uses when it is given no
// database URL, and what the tests run against.
//
// It finds binaries (it never downloads any), creates the cluster on the first start, and keeps the
// data between runs. What it promises:
//
//   - Only the user that runs the program (and root) can connect: the server listens on a Unix socket
//     in a directory of mode 0700 and on no TCP address at all. Authentication is "trust" behind that
//     door; Settings can't open it.
//   - One program per data directory: a second Start fails with an *InUseError, which says
//     how to connect to the first one's server.
//   - What an earlier run left behind is no obstacle: a stale postmaster.pid, also when its process id
//     now belongs to another program; a server that outlived a killed program, which is stopped in
//     order; a cluster whose creation was cut off.
//   - A data directory of another major version is refused with a *VersionError and left untouched.
//   - PostgreSQL refuses to run as root. Started by root, it runs as the user postgres, or nobody
//     (65534) where there is none, and lives under Config.RootDir, because that user can't enter a root-only
//     folder; binaries that this user can't reach are copied there.
//   - Ctrl-C in a terminal doesn't reach the server before Stop does (it has a process group of its
//     own), and on Linux it stops in order when the program dies without calling Stop.
//
// It does not supervise: PostgreSQL restarts its own backends after a crash, but when the server as
// a whole is gone, Done is closed and what to do is the caller's decision.
package pgembed
