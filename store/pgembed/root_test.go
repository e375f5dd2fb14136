package pgembed

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// asUser is the guard against endless re-execution, and tells tests that root has run its part.
const asUser = "FRESHET_PGEMBED_AS_USER"

// root reports whether this is root; those who aren't have to be root's re-execution for the test
// to count as run.
func root(t *testing.T) bool {
	t.Helper()
	if os.Getenv(asUser) != "" {
		return false
	}
	return prerequisite(t, os.Geteuid() == 0, "only root can show what happens to root")
}

// differs names the tests whose outcome has to do with who runs them.
const differs = "^(TestServer_life|TestServer_listensOnItsSocketOnly|TestServer_socketInTmp.*|TestServer_stopsInOrder.*|" +
	"TestStart_concurrently|TestStart_stalePIDFile|TestStart_stopsAServer.*|TestStart_endsOrphanedBackends|TestNPM_.*|TestUser_.*)$"

// TestAsNormalUser runs those once more, as a user without rights.
func TestAsNormalUser(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return // this is the normal user
	}
	dir := folder(t)
	binary := filepath.Join(dir, "pgembed.test")
	require.NoError(t, copyFile(os.Args[0], binary))
	temp := filepath.Join(dir, "t")
	require.NoError(t, os.Mkdir(temp, 0o700))
	require.NoError(t, os.Chown(temp, nobody, nobody))
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.timeout=5m", "-test.run="+differs)
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), asUser+"=1", "TMPDIR="+temp, "HOME="+temp)
	if modules, err := findNPM(t.Context(), npmDir(t)); err == nil && modules.npm {
		mine, _ := unpacked(t) // also where the repository is root's alone
		cmd.Env = append(cmd.Env, "FRESHET_TEST_NPM_POSTGRES="+mine)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "as user %d:\n%s", nobody, out)
	for _, name := range []string{"TestServer_life", "TestStart_stalePIDFile", "TestUser_meetsRootsServer", "TestNPM_readOnly"} {
		require.Contains(t, string(out), "--- PASS: "+name)
	}
}

func TestRoot_runsAsAnotherUser(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return
	}
	c := config(t)
	c.DataDir = filepath.Join(filepath.Dir(c.DataDir), "closed", "data")
	require.NoError(t, os.MkdirAll(c.DataDir, 0o700)) // nobody but root gets in here
	s := start(t, c)
	require.Equal(t, filepath.Join(c.RootDir), filepath.Dir(s.site.home))
	link, err := os.Readlink(filepath.Join(c.DataDir, "postgres"))
	require.NoError(t, err)
	require.Equal(t, s.DataDir(), link)
	info, err := os.Stat(fmt.Sprintf("/proc/%d", s.current().cmd.Process.Pid))
	require.NoError(t, err)
	require.Equal(t, uint32(s.site.as.uid), info.Sys().(*syscall.Stat_t).Uid)
	require.NotZero(t, s.site.as.uid)
	stop(t, s)

	// The owner of the data goes on owning it, whoever would be chosen today.
	require.NoError(t, filepath.WalkDir(s.DataDir(), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 54321, 54321)
	}))
	again := start(t, c)
	require.Equal(t, 54321, again.site.as.uid)
}

func TestRoot_copiesBinariesThatTheUserCannotReach(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return
	}
	c := config(t)
	for name, mode := range map[string]os.FileMode{"reachable": 0o755, "root's alone": 0o700} {
		t.Run(name, func(t *testing.T) {
			modules, ok := unpacked(t)
			if !ok {
				return
			}
			require.NoError(t, os.Chmod(modules, mode))
			c := c
			c.DataDir = filepath.Join(folder(t), "data")
			c.NPMDir, c.search = modules, &search{}
			s := start(t, c)
			copies, err := filepath.Glob(filepath.Join(s.site.home, "binaries-*"))
			require.NoError(t, err)
			if mode == 0o755 {
				require.Empty(t, copies)
				return
			}
			require.Len(t, copies, 1)
			stop(t, s)

			// Renewed with the original, and only then.
			postgres := filepath.Join(modules, filepath.FromSlash(npmPackage()), "native", "bin", "postgres")
			before, err := os.Stat(copies[0])
			require.NoError(t, err)
			again := start(t, c)
			after, err := os.Stat(copies[0])
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after))
			stop(t, again)
			info, err := os.Stat(postgres)
			require.NoError(t, err)
			require.NoError(t, os.Chtimes(postgres, info.ModTime(), info.ModTime().Add(1e9)))
			start(t, c)
			renewed, err := filepath.Glob(filepath.Join(s.site.home, "binaries-*"))
			require.NoError(t, err)
			require.Len(t, renewed, 1)
			require.NotEqual(t, copies, renewed)
		})
	}
}

// playDialer tries to get in as another user.
func playDialer() int {
	conn, err := net.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Println(err)
		return 0
	}
	_ = conn.Close()
	fmt.Println("connected")
	return 0
}

func TestRoot_otherUsersStayOut(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return
	}
	dir := folder(t)
	binary := filepath.Join(dir, "pgembed.test")
	require.NoError(t, copyFile(os.Args[0], binary))
	s := start(t, config(t))
	dial := func(uid int) string {
		cmd := exec.CommandContext(testContext(t), binary, filepath.Join(s.site.socketDir, socketName))
		cmd.Dir = "/"
		cmd.Env = []string{roleVariable + "=dial"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{}}}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.Contains(t, dial(54321), "permission denied")
	require.Contains(t, dial(s.site.as.uid), "connected")
}

func TestRoot_andAUserDontMixUpTheirServers(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return
	}
	// A user's data directory, run by root.
	c := config(t)
	require.NoError(t, os.MkdirAll(filepath.Join(c.DataDir, "postgres"), 0o700))
	require.NoError(t, os.Chown(filepath.Join(c.DataDir, "postgres"), 54321, 54321))
	_, err := Start(testContext(t), c)
	quoted(t, err, "belongs to the user with id 54321")

	// A folder that others may write to is no place for root's servers.
	for name, spoil := range map[string]func(string) error{
		"mode":  func(dir string) error { return os.Chmod(dir, 0o777) },
		"owner": func(dir string) error { return os.Chown(dir, 54321, 54321) },
	} {
		c := config(t)
		require.NoError(t, os.Mkdir(c.RootDir, 0o755))
		require.NoError(t, spoil(c.RootDir))
		_, err := Start(testContext(t), c)
		quoted(t, err, "only root can write")
		require.Error(t, err, name)
	}
}

// The other way round: what root has started isn't replaced by an empty database of the user's own.
func TestUser_meetsRootsServer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		return // TestAsNormalUser runs it
	}
	c := config(t)
	require.NoError(t, os.MkdirAll(c.DataDir, 0o700))
	require.NoError(t, os.Symlink("/var/lib/freshet/0123/postgres", filepath.Join(c.DataDir, "postgres")))
	_, err := Start(testContext(t), c)
	quoted(t, err, "root started this private server")
}

// A user id without a name is usual in containers, and initdb's own words don't say what to do.
func TestRoot_userWithoutAName(t *testing.T) {
	t.Parallel()
	if !root(t) {
		return
	}
	c := config(t)
	site, err := openSite(c)
	require.NoError(t, err)
	site.close()
	require.NoError(t, os.Mkdir(site.cluster, 0o700))
	require.NoError(t, os.Chown(site.cluster, 54321, 54321))
	_, err = Start(testContext(t), c)
	quoted(t, err, "54321", "a line in /etc/passwd")
}
