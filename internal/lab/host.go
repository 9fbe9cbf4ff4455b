package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// Host is a machine: its own network, mounts, processes, host name and
// cgroup, with empty /run and /var/lib. The rest of the file system is the
// test machine's.
type Host struct {
	Name string

	t      T
	pid1   *exec.Cmd
	alive  io.Closer      // pid 1 lives while this is open
	cgroup *cgroup.Cgroup // nil where cgroup v2 cannot be had
	ns     []namespace

	mu     sync.Mutex // protects the following
	procs  []*Process
	daemon *daemon
	ports  map[string]port
}

// namespace is one that a thread enters to act in a host.
type namespace struct {
	file *os.File
	flag int
}

// The namespaces of a host besides its cgroup namespace. The mount namespace
// comes last: after it, /proc is the host's.
var hostNamespaces = []struct {
	name string
	flag int
}{
	{"net", unix.CLONE_NEWNET},
	{"uts", unix.CLONE_NEWUTS},
	{"pid", unix.CLONE_NEWPID},
	{"mnt", unix.CLONE_NEWNS},
}

func newHost(t T, name string) (*Host, error) {
	h := &Host{Name: name, t: t, ports: map[string]port{}}
	h.cgroup, _ = cgroup.New(mark(os.Getpid()) + name + "-") // not every machine has them
	h.pid1 = &exec.Cmd{Path: "/proc/self/exe", Args: []string{argHost, name}, Stderr: os.Stderr, SysProcAttr: h.attr()}
	for _, n := range hostNamespaces {
		h.pid1.SysProcAttr.Cloneflags |= uintptr(n.flag)
	}
	if h.cgroup != nil {
		h.pid1.SysProcAttr.Unshareflags = unix.CLONE_NEWCGROUP
	}
	if err := h.boot(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// boot starts pid 1, waits until it has furnished the host and takes hold of
// its namespaces.
func (h *Host) boot() error {
	in, err := h.pid1.StdinPipe()
	if err != nil {
		return err
	}
	h.alive = in
	out, err := h.pid1.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.pid1.Start(); err != nil {
		return err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line = strings.TrimSpace(line); line != hostReady {
		return fmt.Errorf("pid 1: %s", line)
	}
	return h.hold()
}

func (h *Host) hold() error {
	open := func(name string, flag int) error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", h.pid1.Process.Pid, name))
		if err == nil {
			h.ns = append(h.ns, namespace{f, flag})
		}
		return err
	}
	if h.cgroup != nil {
		if err := open("cgroup", unix.CLONE_NEWCGROUP); err != nil {
			return err
		}
	}
	for _, n := range hostNamespaces {
		if err := open(n.name, n.flag); err != nil {
			return err
		}
	}
	return nil
}

// attr is what every process of the host is started with.
func (h *Host) attr() *syscall.SysProcAttr {
	if h.cgroup == nil {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: h.cgroup.FD()}
}

// Do calls fn on a thread inside the host. Goroutines that fn starts are not
// there, processes are. fn cannot end the test; it returns its error.
func (h *Host) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := h.enter(); err != nil {
			done <- fmt.Errorf("enter host %s: %w", h.Name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func (h *Host) enter() error {
	// Threads that share their root and working directory cannot change mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, n := range h.ns {
		if err := unix.Setns(int(n.file.Fd()), n.flag); err != nil {
			return fmt.Errorf("%s: %w", n.file.Name(), err)
		}
	}
	return nil
}

// netns is the host's network namespace.
func (h *Host) netns() *os.File {
	for _, n := range h.ns {
		if n.flag == unix.CLONE_NEWNET {
			return n.file
		}
	}
	return nil
}

// close ends the host and everything in it, and returns when it is over.
func (h *Host) close() {
	if h.pid1.Process != nil {
		h.pid1.Process.Kill()
	}
	if h.alive != nil {
		h.alive.Close()
	}
	// The kernel finishes pid 1 only after all others are reaped, and the
	// ones that we started are ours to reap.
	for _, p := range h.procs {
		p.Wait()
		h.t.Logf("host %s: %s:\n%s", h.Name, strings.Join(p.cmd.Args, " "), p.Output())
	}
	if h.pid1.Process != nil {
		var exit *exec.ExitError
		if err := h.pid1.Wait(); err != nil && !errors.As(err, &exit) {
			h.t.Logf("host %s: %v", h.Name, err)
		}
	}
	for _, n := range h.ns {
		n.file.Close()
	}
	if h.cgroup == nil {
		return
	}
	if err := h.cgroup.Remove(); err != nil {
		h.t.Logf("host %s: %v", h.Name, err)
	}
}
