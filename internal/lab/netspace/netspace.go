// Package netspace is test-only: network namespaces without a name, for tests in
// one process of what has its sockets in others. They end with the process.
package netspace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// envInside is set in the process that Main starts.
const envInside = "SEALANE_TEST_INSIDE"

// Main is the TestMain of a package whose tests have a network and mounts of their
// own: nothing they make is seen outside, and all of it ends with them. What
// prepares that runs before the tests, inside.
func Main(m *testing.M, prepare ...func()) {
	if os.Getenv(envInside) == "" {
		os.Exit(again())
	}
	if err := unix.Mount("", "/", "none", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "make mounts private:", err)
		os.Exit(1)
	}
	for _, f := range prepare {
		f()
	}
	os.Exit(m.Run())
}

// again runs the test binary inside, and returns its exit status.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // the signal is of the thread's death
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Space is a network namespace that lives while its file is open.
type Space struct{ file *os.File }

// Open makes one that lives as long as the process. Its lo is down.
func Open() (Space, error) {
	var s Space
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		s.file = f
		return err
	})
	if err != nil {
		return Space{}, fmt.Errorf("network namespace: %w", err)
	}
	return s, nil
}

// New makes one that ends with the test. Its lo is down.
func New(t testing.TB) Space {
	t.Helper()
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

// Path is what ip and nsenter take.
func (s Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// NS is the namespace as kernel state has it.
func (s Space) NS() kstate.NS { return kstate.NS{Path: s.Path()} }

// Command is exec.Command for a command inside.
func (s Space) Command(words ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + s.Path()}, words...)...)
}

// Run runs a command line inside, which has to succeed, and returns what it prints.
func (s Space) Run(t testing.TB, format string, args ...any) string {
	t.Helper()
	return output(t, s.Command(strings.Fields(fmt.Sprintf(format, args...))...))
}

// Here is Run in the namespace of the calling thread.
func Here(t testing.TB, format string, args ...any) string {
	t.Helper()
	words := strings.Fields(fmt.Sprintf(format, args...))
	return output(t, exec.Command(words[0], words[1:]...))
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

// In calls f inside, on a thread that ends with it. A socket that f makes stays
// there; goroutines that it starts are elsewhere.
func In[T any](s Space, f func() (T, error)) (v T, err error) {
	err = apart(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		v, err = f()
		return err
	})
	return v, err
}

// apart calls f on a thread that ends with it.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
