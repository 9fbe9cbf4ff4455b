package linux

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests run in a process with a network and mounts of its own.
func TestMain(m *testing.M) { netspace.Main(m) }

// host moves the test's goroutine to a fresh network namespace with lo up, for
// good, and returns an empty run directory.
func host(t testing.TB) string {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set lo up")
	dir := t.TempDir()
	if err := unix.Mount("run", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountAll(t, dir) })
	return dir
}

// unmountAll unmounts dir and what is mounted in it, the innermost first.
func unmountAll(t testing.TB, dir string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		f := strings.Fields(lines[i])
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil {
				t.Error(f[4], err)
			}
		}
	}
}

// start opens a kernel in a fresh host.
func start(t testing.TB) (*Linux, string) {
	t.Helper()
	dir := host(t)
	return open(t, Config{RunDir: dir, Journal: &journal.Memory{}}), dir
}

func open(t testing.TB, c Config) *Linux {
	t.Helper()
	k, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// run runs a command, on the thread's own network namespace, and returns what
// it prints.
func run(t testing.TB, line string, args ...any) string {
	t.Helper()
	f := strings.Fields(fmt.Sprintf(line, args...))
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(f, " "), err, out)
	}
	return string(out)
}
