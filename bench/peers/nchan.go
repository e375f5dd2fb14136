package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// nchan is nginx with the module of Debian's package libnginx-mod-nchan. Its
// publisher is this process, over one connection.
type nchan struct {
	at   string
	dir  string
	cmd  *exec.Cmd
	post *http.Client
}

const nchanConfig = `load_module %[1]s;
daemon off;
worker_processes %[2]d;
worker_rlimit_nofile 20000;
pid %[3]s/nginx.pid;
error_log stderr error;
events { worker_connections 19900; }
http {
  access_log off;
  nchan_max_reserved_memory 256M;
  client_body_temp_path %[3]s/body; proxy_temp_path %[3]s/proxy; fastcgi_temp_path %[3]s/fastcgi;
  uwsgi_temp_path %[3]s/uwsgi; scgi_temp_path %[3]s/scgi;
  keepalive_requests 1000000000;
  server {
    listen %[4]s%[5]s;
    location = /sub { nchan_subscriber eventsource; nchan_channel_id s; nchan_subscriber_first_message newest; }
    location = /pub { nchan_publisher; nchan_channel_id s; nchan_message_buffer_length 1; nchan_message_timeout 10s; }
  }
}
`

// nchanModule is where Debian has it.
const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

// freePort is free now, and most likely still when nginx binds it.
func freePort() (string, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func startNchan(o options) (_ server, err error) {
	n := &nchan{post: &http.Client{Timeout: 30 * time.Second}}
	if n.at, err = freePort(); err != nil {
		return nil, err
	}
	if n.dir, err = os.MkdirTemp("", "freshet-nchan-"); err != nil {
		return nil, err
	}
	buffer := ""
	if o.SendBuffer > 0 {
		buffer = fmt.Sprintf(" sndbuf=%d", o.SendBuffer)
	}
	config := filepath.Join(n.dir, "nginx.conf")
	text := fmt.Sprintf(nchanConfig, nchanModule, runtime.NumCPU(), n.dir, n.at, buffer)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(n.dir))
	}
	var log bytes.Buffer
	n.cmd = exec.Command("nginx", "-c", config, "-p", n.dir, "-e", "stderr") //nolint:noctx,gosec // stopped by close
	n.cmd.Stderr = &log
	if err := n.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(n.dir))
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", n.at) //nolint:noctx // loopback
		if err == nil {
			return n, conn.Close()
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(err, n.close(), errors.New(log.String()))
		}
	}
}

func (n *nchan) address() string { return n.at }
func (n *nchan) pid() int        { return n.cmd.Process.Pid }

func (n *nchan) publish(told notice) (err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+n.at+"/pub", bytes.NewReader(told.data))
	if err != nil {
		return err
	}
	req.Header.Set("X-EventSource-Event", "invalidate")
	res, err := n.post.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("nchan: %s: %.200s", res.Status, strings.TrimSpace(string(body)))
	}
	return err
}

func (n *nchan) close() error {
	err := n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait() // its status says how it was stopped
	return errors.Join(err, os.RemoveAll(n.dir))
}
