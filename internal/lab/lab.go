// Package lab is test-only: it builds machines out of namespaces, wires them
// with switches and runs the product in them.
//
//	host a                  switch lan                 host b
//	┌───────────────┐      ┌──────────────┐      ┌───────────────┐
//	│ net mnt pid   │ veth │ net          │ veth │ net mnt pid   │
//	│ uts cgroup    ├──────┤    bridge    ├──────┤ uts cgroup    │
//	│ /run /var/lib │ eth0 │ port1  port2 │ eth0 │ /run /var/lib │
//	└───────────────┘      └──────────────┘      └───────────────┘
//
// A host is a process, pid 1 of its own pid namespace: the test binary started
// again. Whatever runs in the host dies with it, and it dies with the test,
// also when that is killed with -9. Namespaces, links and mounts have no name
// outside: they are held by processes and file descriptors. What must be a
// file, the binaries and a cgroup per host, bears the test's process id, and
// the next run sweeps it if a killed one could not.
//
// A package that uses the lab says so in its TestMain:
//
//	func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// T is the part of testing.TB that the lab needs.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// EnvBin names the directory with the binaries that Main built. Main builds
// none where it is set already, as it is where there is no compiler.
const EnvBin = "SEALANE_LAB_BIN"

// Main is the TestMain of a package that uses the lab. It builds lab-echo and
// the named commands of cmd/ into a directory put in front of PATH, runs the
// tests and exits. Without root it runs them in a user namespace of their own.
func Main(m *testing.M, commands ...string) {
	if os.Args[0] == argHost {
		os.Exit(hostMain(os.Args[1]))
	}
	if os.Geteuid() != 0 {
		os.Exit(asRoot())
	}
	// A goroutine that ends locked takes its thread with it, except for the
	// first one, which would stay in a host and hold it. Keep it for ourselves.
	runtime.LockOSThread()
	if os.Getenv(EnvBin) != "" {
		os.Exit(m.Run()) // in a host, processes that we do not see are not dead
	}
	sweep()
	bin, err := build(commands)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
	os.Setenv(EnvBin, bin)
	os.Setenv("PATH", bin+":/usr/sbin:/sbin:"+os.Getenv("PATH"))
	code := m.Run()
	os.RemoveAll(bin)
	os.Exit(code)
}

// asRoot starts the test binary again as root of a user namespace.
func asRoot() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		Pdeathsig:   syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lab: user namespace:", err)
		return 1
	}
	return 0
}

// build compiles what the hosts run; the Go build cache makes it quick.
func build(commands []string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("module root: %w", err)
	}
	bin, err := os.MkdirTemp("", mark(os.Getpid()))
	if err != nil {
		return "", err
	}
	if err := os.Chmod(bin, 0o755); err != nil {
		return "", err
	}
	sources := map[string]string{"lab-echo": "./internal/lab/echo"}
	for _, c := range commands {
		sources[c] = "./cmd/" + c
	}
	for name, src := range sources {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), src)
		cmd.Dir = strings.TrimSpace(string(root))
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			os.RemoveAll(bin)
			return "", fmt.Errorf("build %s: %w\n%s", src, err, out)
		}
	}
	return bin, alias(bin, commands)
}

// mark begins the name of all that a test process has in a file system.
func mark(pid int) string { return fmt.Sprintf("sealane-lab-%d-", pid) }

// sweep removes the directories of test processes that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "sealane-lab-*"))
	if parent, err := cgroup.Own(); err == nil {
		cgroups, _ := filepath.Glob(filepath.Join(parent, "sealane-lab-*"))
		dirs = append(dirs, cgroups...)
	}
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "sealane-lab-%d-", &pid); err != nil {
			continue
		}
		if syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		if cgroup.RemoveTree(dir) != nil { // a cgroup has files that only rmdir takes
			os.RemoveAll(dir)
		}
	}
}

// alias gives the plugin its other name.
func alias(bin string, commands []string) error {
	if !slices.Contains(commands, plugin) {
		return nil
	}
	return os.Symlink(plugin, filepath.Join(bin, "pipework"))
}

// plugin is the command that has two names.
const plugin = "sealane-cni"

// Lab is a set of hosts and switches that ends with the test.
type Lab struct {
	t T

	mu       sync.Mutex // protects the following
	hosts    map[string]*Host
	switches map[string]*Switch
}

// New returns an empty lab.
func New(t T) *Lab {
	t.Helper()
	if os.Getenv(EnvBin) == "" {
		t.Fatalf("lab: TestMain must call lab.Main")
	}
	l := &Lab{t: t, hosts: map[string]*Host{}, switches: map[string]*Switch{}}
	t.Cleanup(l.close)
	return l
}

// Host returns the host called name, making it first if need be.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.hosts[name]; h != nil {
		return h
	}
	h, err := newHost(l.t, name)
	if err != nil {
		l.t.Fatalf("host %s: %v", name, err)
	}
	l.hosts[name] = h
	return h
}

// Switch returns the switch called name, making it first if need be.
func (l *Lab) Switch(name string) *Switch {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.switches[name]; s != nil {
		return s
	}
	s, err := newSwitch(l.t, name)
	if err != nil {
		l.t.Fatalf("switch %s: %v", name, err)
	}
	l.switches[name] = s
	return s
}

// close ends everything, hosts first: their veths go with them.
func (l *Lab) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		h.close()
	}
	for _, s := range l.switches {
		s.close()
	}
}
