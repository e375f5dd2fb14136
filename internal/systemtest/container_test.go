//go:build linux

package systemtest_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// image is the last stage of a Containerfile.
type image struct {
	copied map[string]string // to, from
	built  string            // where the program is
	env    []string
	entry  []string
}

func readImage(t *testing.T) (i image) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "deploy/container/Containerfile"))
	require.NoError(t, err)
	_, stage, found := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(t, found)
	i.copied = map[string]string{}
	for line := range strings.Lines(stage) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "COPY":
			i.copied[words[len(words)-1]] = words[len(words)-2]
		case words[0] == "ENV":
			i.env = append(i.env, words[1])
		case words[0] == "ENTRYPOINT":
			i.entry = strings.FieldsFunc(strings.Join(words[1:], ""), func(r rune) bool { return strings.ContainsRune(`[]",`, r) })
		}
	}
	require.Contains(t, stage, "\nUSER 65532:65532\n")
	return i
}

// With what the Containerfile copies, and nothing else, as nobody in particular, the
// program starts and serves. (The image itself is not built here: there is no
// container engine.)
func TestContainer(t *testing.T) {
	t.Parallel()
	i := readImage(t)
	root, err := os.MkdirTemp("", "freshet-root-") // t.TempDir is root's alone
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	require.NoError(t, os.Chmod(root, 0o755)) //nolint:gosec // for its user
	for to, from := range i.copied {
		at := filepath.Join(root, to)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755)) //nolint:gosec // the same
		switch {
		case strings.HasPrefix(from, "/src/bin/"):
			// Of all that it imports, where nothing was compiled without cgo before.
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			build := exec.CommandContext(ctx, "go", "build", "-o", at, "./cmd/freshet") //nolint:gosec // ours
			build.Dir, build.Env = testkit.Root(), append(os.Environ(), "CGO_ENABLED=0")
			out, err := build.CombinedOutput()
			require.NoError(t, err, "%s", out)
			i.built = to
		case strings.HasPrefix(from, "/"):
			require.Equal(t, to, from, "Debian's")
			require.NoError(t, os.WriteFile(at, nil, 0o644)) //nolint:gosec // none are needed here
		default:
			text, err := os.ReadFile(filepath.Join(testkit.Root(), from))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(at, text, 0o644)) //nolint:gosec // no secret
		}
	}
	require.Equal(t, []string{i.built}, i.entry)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "etc/freshet"), 0o755)) //nolint:gosec // the volume
	addr := live.FreeAddr(t)
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/freshet/freshet.yaml"), []byte("addr: "+addr+"\nadmin-addr: ''\nslot: container\n"), 0o644)) //nolint:gosec // no secret

	database := testkit.NewProxy(t, testkit.Migrated(t)) // by TCP: its socket is outside
	command := exec.CommandContext(testkit.Context(t), i.entry[0], "serve")
	command.Env = append(i.env, "FRESHET_DATABASE_URL="+database.URL())
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
	} else {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}}
	}
	log := new(testkit.Buffer)
	command.Stdout, command.Stderr = log, log
	require.NoError(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	defer func() {
		_ = command.Process.Signal(syscall.SIGINT)
		select {
		case err := <-ended:
			require.NoError(t, err, log.String())
		case <-time.After(30 * time.Second):
			_ = command.Process.Kill()
			require.Fail(t, "it doesn't stop", log.String())
		}
	}()
	c := transport(t, false)
	require.Eventually(t, func() bool {
		resp, err := c.Get("http://" + addr + "/readyz") //nolint:noctx // bounded by Eventually
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond, "%s", log)
	status := statusOf(t, c, "http://"+addr+"/messages.v1.MessageService/ListMessages", `{"parent":"conversations/7"}`)
	require.Equal(t, http.StatusOK, status)
}

func statusOf(t *testing.T, c *http.Client, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
