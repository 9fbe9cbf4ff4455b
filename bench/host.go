package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// The names under which this program is started again.
const (
	roleHost   = "sealane-bench-host"   // process 1 of a host
	roleSpaces = "sealane-bench-spaces" // makes named namespaces in a host
)

// roles plays the part that the program was started for, if it is one of these.
func roles(args []string) bool {
	var err error
	switch args[0] {
	case roleHost:
		err = hostMain()
	case roleSpaces:
		err = makeSpaces(args[1], args[2])
	default:
		return false
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

// host is a machine made of namespaces. It ends, with all that runs in it, when
// its process 1 does, and that when this program does.
type host struct {
	pid1   *exec.Cmd
	alive  io.Closer // process 1 lives while this is open
	cgroup *cgroup.Cgroup
	ns     []namespace
	links  *netlink.Handle
}

// namespace is one that a thread enters to act in a host.
type namespace struct {
	file *os.File
	flag int
}

// The namespaces of a host. The mount namespace comes last: after it, /proc is
// the host's.
var hostNamespaces = []struct {
	name string
	flag int
}{
	{"cgroup", unix.CLONE_NEWCGROUP}, {"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
}

const hostReady = "ready"

// newHost makes a host that sees its own cgroups only, as a program that makes some should.
func newHost() (*host, error) { return bootHost(unix.CLONE_NEWCGROUP) }

// newOpenHost makes one that sees the machine's cgroups: what the daemon there has to say
// about sockets is for those of this program too, which is in none of the host's.
func newOpenHost() (*host, error) { return bootHost(0) }

func bootHost(unshared uintptr) (*host, error) {
	group, err := cgroup.New(fmt.Sprintf("sealane-bench-%d-", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("host: cgroup: %w", err)
	}
	h := &host{cgroup: group}
	if err := h.boot(unshared); err != nil {
		h.close()
		return nil, fmt.Errorf("host: %w", err)
	}
	return h, nil
}

// attr is what processes of the host are started with.
func (h *host) attr() *unix.SysProcAttr {
	return &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: h.cgroup.FD()}
}

// boot starts process 1, waits until the host is furnished and takes hold of it.
func (h *host) boot(unshared uintptr) error {
	h.pid1 = &exec.Cmd{Path: "/proc/self/exe", Args: []string{roleHost}, Stderr: os.Stderr, SysProcAttr: h.attr()}
	h.pid1.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS
	h.pid1.SysProcAttr.Unshareflags = unshared // once it is in its cgroup
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
	if line, _ := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != hostReady {
		return errors.New(strings.TrimSpace(line))
	}
	for _, n := range hostNamespaces {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", h.pid1.Process.Pid, n.name))
		if err != nil {
			return err
		}
		h.ns = append(h.ns, namespace{f, n.flag})
	}
	h.links, err = netlink.NewHandleAt(netns.NsHandle(h.ns[1].file.Fd()))
	return err
}

// hostMain furnishes the new namespaces and waits for the end of stdin.
func hostMain() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount private: %w", err)
	}
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run"}, {"tmpfs", "/var/lib"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	if err := furnish(); err != nil {
		return err
	}
	fmt.Println(hostReady)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// furnish gives the thread's new network namespace a loopback that is up and a
// TCP that sends what it can: a machine may have one that paces (BBR), which
// would be measured instead of the path.
func furnish() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0)
}

// filterBridged says whether the host's packet filters see what crosses a
// bridge: br_netfilter. Debian's kernel does so once somebody has loaded that
// module, as dockerd does when it starts; some kernels have it built in.
func (h *host) filterBridged(on bool) error {
	value := []byte("0")
	if on {
		value = []byte("1")
	}
	return h.do(func() (err error) {
		for _, name := range []string{"iptables", "ip6tables", "arptables"} {
			failed := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, value, 0)
			if on || !errors.Is(failed, fs.ErrNotExist) {
				err = errors.Join(err, failed)
			}
		}
		return err
	})
}

// do calls fn on a thread inside the host. Goroutines that fn starts are not
// there, processes are.
func (h *host) do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		// Threads that share their root directory cannot change mounts.
		err := unix.Unshare(unix.CLONE_FS)
		for _, n := range h.ns {
			if err == nil {
				err = unix.Setns(int(n.file.Fd()), n.flag)
			}
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// path is where a file of the host is seen from outside.
func (h *host) path(p string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.pid1.Process.Pid, p)
}

// spaces makes n network namespaces in the host and returns their paths there.
func (h *host) spaces(prefix string, n int) ([]string, error) {
	self, err := os.Executable() // /proc/self is another's in a host
	if err != nil {
		return nil, err
	}
	var out []byte
	err = h.do(func() (err error) {
		cmd := &exec.Cmd{Path: self, Args: []string{roleSpaces, prefix, strconv.Itoa(n)}, SysProcAttr: h.attr()}
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("namespaces: %s: %w", strings.TrimSpace(string(out)), err)
	}
	return spacePaths(prefix, n), nil
}

func spacePaths(prefix string, n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = filepath.Join("/run/netns", fmt.Sprintf("%s%d", prefix, i))
	}
	return paths
}

// makeSpaces makes namespaces with their loopback up, bound to names as those
// of ip-netns(8). They take the place of older ones.
func makeSpaces(prefix, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	for _, p := range spacePaths(prefix, n) {
		if err := makeSpace(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func makeSpace(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	err := furnish()
	if unix.Unmount(path, unix.MNT_DETACH) == nil {
		err = errors.Join(err, os.Remove(path))
	}
	if err == nil {
		err = os.WriteFile(path, nil, 0o444)
	}
	if err == nil {
		err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}
	return err
}

// veths counts the veths in the host's namespace.
func (h *host) veths() (int, error) {
	links, err := h.links.LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return h.veths()
	}
	n := 0
	for _, l := range links {
		if l.Type() == "veth" {
			n++
		}
	}
	return n, err
}

// drained waits until no more than n veths are left.
func (h *host) drained(n int) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		left, err := h.veths()
		if err != nil || left <= n {
			return err
		}
	}
	return fmt.Errorf("more than %d devices are left after 30 s", n)
}

// kill kills all processes of the host. Those that we started are ours to wait
// for, before close does for process 1.
func (h *host) kill() {
	if h.pid1.Process != nil {
		h.pid1.Process.Kill()
	}
}

// close ends the host and everything in it.
func (h *host) close() {
	if h.links != nil {
		h.links.Close()
	}
	h.kill()
	if h.pid1.Process != nil {
		h.alive.Close()
		_ = h.pid1.Wait() // it was killed, after all others in the host
	}
	for _, n := range h.ns {
		n.file.Close()
	}
	if err := h.cgroup.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
