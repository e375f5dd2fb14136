package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is what is measured: a server in a process of its own, and the
// database behind it.
type Server struct {
	URL         string
	DatabaseURL string
	Version     string // what the program says of itself
	PID         int    // 0: not ours
	PostgresPID int    // 0: not ours

	stop func() error
}

// Stop ends a server that Start has started, and its private Postgres with all
// data.
func (s *Server) Stop() error { return s.stop() }

// Running is a server that somebody else has started, and looks after.
func Running(serverURL, databaseURL string) *Server {
	return &Server{
		URL: strings.TrimSuffix(serverURL, "/"), DatabaseURL: databaseURL, Version: "a server that ran already",
		stop: func() error { return nil },
	}
}

// Start starts bin/freshet as users do, with every default but the ports and
// the data directory. Without a database URL it has a private Postgres whose
// data is removed in the end.
func Start(ctx context.Context, binary, databaseURL string) (*Server, error) {
	return StartWith(ctx, binary, Options{DatabaseURL: databaseURL})
}

// start leaves the data in dir to its caller.
func start(ctx context.Context, binary, databaseURL, dir string, flags ...string) (_ *Server, err error) {
	version, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w (`make bench` builds it)", binary, err)
	}
	args := []string{"serve", "--addr=127.0.0.1:0", "--admin-addr=", "--log-format=json", "--data-dir=" + dir}
	if databaseURL != "" {
		args = append(args, "--database-url="+databaseURL)
	}
	cmd := exec.Command(binary, append(args, flags...)...) //nolint:noctx // stopped in order, by signal
	cmd.Env = environment()
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	ready, ended := make(chan string, 1), make(chan struct{})
	var end error // read it after ended
	go func() {
		defer close(ended)
		tail := scan(log, ready)
		if err := cmd.Wait(); err != nil {
			end = fmt.Errorf("freshet serve: %w\n%s", err, strings.Join(tail, "\n"))
		}
	}()
	s := &Server{DatabaseURL: databaseURL, Version: strings.TrimSpace(string(version)), PID: cmd.Process.Pid}
	s.stop = func() error {
		var err error
		if signal := cmd.Process.Signal(syscall.SIGINT); !errors.Is(signal, os.ErrProcessDone) {
			err = signal
		}
		select {
		case <-ended:
		case <-time.After(time.Minute):
			err = errors.Join(errors.New("freshet serve doesn't stop; killed"), cmd.Process.Kill())
			<-ended
		}
		return errors.Join(err, end)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()

	starting, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("freshet serve isn't ready after a minute"))
	defer cancel()
	select {
	case s.URL = <-ready:
	case <-ended:
		return nil, errors.New("freshet serve ended before it was ready")
	case <-starting.Done():
		return nil, context.Cause(starting)
	}
	if databaseURL == "" {
		s.DatabaseURL, s.PostgresPID, err = privatePostgres(dir)
	}
	return s, err
}

// environment is ours without what would configure the server.
func environment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "FRESHET_") && !strings.HasPrefix(entry, "DATABASE_URL=") && !strings.HasPrefix(entry, "PG") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// scan reads the server's log to its end. It tells the URL once the server is
// ready, and returns the last lines, for an error.
func scan(log io.Reader, ready chan<- string) (tail []string) {
	for s := bufio.NewScanner(log); s.Scan(); {
		if tail = append(tail, s.Text()); len(tail) > 10 {
			tail = tail[1:]
		}
		var line struct{ Msg, URL string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "ready" {
			select {
			case ready <- line.URL:
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, log) // after a line too long: or the server blocks on its log
	return tail
}

// privatePostgres finds the server's Postgres by the file that every postmaster
// keeps: process id, data directory, start, port, folder of the socket
// (PostgreSQL manual, section "Database File Layout").
func privatePostgres(dir string) (databaseURL string, pid int, _ error) {
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		return "", 0, err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 5 {
		return "", 0, fmt.Errorf("postmaster.pid has %d lines", len(lines))
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return "", 0, fmt.Errorf("postmaster.pid: %w", err)
	}
	query := url.Values{"host": {lines[4]}, "port": {lines[3]}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/freshet", RawQuery: query.Encode()}
	return u.String(), pid, nil
}

// removeData removes the data directory of a private Postgres; where root
// started it, dir holds a link to a folder that is all its own.
func removeData(dir string) error {
	var err error
	if cluster, linkErr := os.Readlink(filepath.Join(dir, "postgres")); linkErr == nil && filepath.Base(cluster) == "postgres" {
		err = os.RemoveAll(filepath.Dir(cluster))
	}
	return errors.Join(err, os.RemoveAll(dir))
}
