package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests run in a process with mounts of its own.
func TestMain(m *testing.M) { netspace.Main(m) }

// dir returns a directory for namespaces on a file system that goes with the
// test.
func dir(t *testing.T) Dir {
	t.Helper()
	top := t.TempDir()
	if err := unix.Mount("run", top, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	d := Dir(filepath.Join(top, "netns"))
	t.Cleanup(func() {
		paths, err := d.List()
		if err != nil {
			t.Error(err)
		}
		for _, p := range paths {
			if err := d.Remove(p); err != nil {
				t.Error(err)
			}
		}
		unix.Unmount(string(d), unix.MNT_DETACH) // no mount if the test made no namespace
		if err := unix.Unmount(top, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d Dir) at(name string) string { return filepath.Join(string(d), name) }

// current returns the inode of the thread's namespace.
func current(t *testing.T) uint64 {
	t.Helper()
	h, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return h.Inode()
}

func mustOpen(t *testing.T, ns kstate.NS) *Handle {
	t.Helper()
	h, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestMake(t *testing.T) {
	d := dir(t)
	settings := []string{"net.ipv4.ip_unprivileged_port_start=0", "net.ipv4.ping_group_range=0 2147483647"}
	for range 2 { // the second time it is there
		if err := d.Make(d.at("a"), settings); err != nil {
			t.Fatal(err)
		}
	}
	h := mustOpen(t, kstate.NS{Path: d.at("a")})
	home := current(t)
	if h.Inode() == home {
		t.Error("it is the host's own")
	}
	var flags, port string
	err := h.Do(func() error {
		if in := current(t); in != h.Inode() {
			t.Errorf("inside %d, want %d", in, h.Inode())
		}
		out, err := exec.Command("ip", "-o", "link", "show", "lo").CombinedOutput()
		flags = string(out)
		b, rerr := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		port = string(b)
		return errors.Join(err, rerr)
	})
	if err != nil || !strings.Contains(flags, "LOOPBACK,UP") || port != "0\n" {
		t.Errorf("lo is %q, unprivileged port %q, %v", flags, port, err)
	}
	if now := current(t); now != home {
		t.Errorf("outside is %d, was %d", now, home)
	}
	if got, err := d.List(); err != nil || len(got) != 1 || got[0] != d.at("a") {
		t.Errorf("list: %v, %v", got, err)
	}
}

func TestMakeIsVisibleElsewhere(t *testing.T) {
	d := dir(t)
	if err := d.Make(d.at("a"), nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[4] == string(d) && !strings.HasPrefix(f[6], "shared:") {
			t.Errorf("not shared: %s", line)
		}
	}
	// A process with a copy of the mount table sees it go.
	other := exec.Command("unshare", "-m", "--propagation", "unchanged", "sleep", "30")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	if err := d.Remove(d.at("a")); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", other.Process.Pid))
	if err != nil || strings.Contains(string(b), d.at("a")) {
		t.Errorf("%v; the other process has it still", err)
	}
}

func TestMakeRefuses(t *testing.T) {
	d := dir(t)
	for path, settings := range map[string][]string{
		"/tmp/elsewhere":   nil,
		d.at("../outside"): nil,
		d.at("host"):       {"kernel.hostname=x"},
		d.at("missing"):    {"net.ipv4.nosuch=1"},
		d.at("malformed"):  {"net.ipv4.ip_forward"},
	} {
		if err := d.Make(path, settings); err == nil {
			t.Errorf("%s: no error", path)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: left behind", path)
		}
	}
	if err := d.Make(d.at("missing"), []string{"net.ipv4.nosuch=1"}); !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("%v, want %v", err, kernel.ErrMissing)
	}
}

func TestMakeOverLeftover(t *testing.T) {
	d := dir(t)
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.at("a"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if got, err := d.List(); err != nil || len(got) != 0 {
		t.Errorf("list: %v, %v", got, err)
	}
	if err := d.Make(d.at("a"), nil); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, kstate.NS{Path: d.at("a")})
}

func TestRemove(t *testing.T) {
	d := dir(t)
	if err := d.Make(d.at("a"), nil); err != nil {
		t.Fatal(err)
	}
	h := mustOpen(t, kstate.NS{Path: d.at("a")}) // somebody is inside
	for range 2 {
		if err := d.Remove(d.at("a")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(d.at("a")); err == nil {
		t.Error("the path is left")
	}
	if err := h.Do(func() error { return nil }); err != nil {
		t.Errorf("the open namespace: %v", err)
	}
	if err := d.Remove("/proc/self/ns/net"); err == nil {
		t.Error("removed what is not ours")
	}
}

func TestOpen(t *testing.T) {
	top := t.TempDir()
	file, fifo := filepath.Join(top, "file"), filepath.Join(top, "fifo")
	loop, socket := filepath.Join(top, "loop"), filepath.Join(top, "socket")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600), os.Symlink(loop, loop)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inode := current(t)
	for _, c := range []struct {
		ns kstate.NS
		ok bool
	}{
		{kstate.NS{Path: "/proc/self/ns/net"}, true},
		{kstate.NS{Path: fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), Inode: inode}, true},
		{kstate.NS{Path: "/proc/self/ns/net", Inode: inode + 1}, false},
		{kstate.NS{Path: "/proc/self/ns/mnt"}, false},
		{kstate.NS{Path: "/proc/4194305/ns/net"}, false},
		{kstate.NS{Path: file}, false},
		{kstate.NS{Path: fifo}, false},
		{kstate.NS{Path: top}, false},
		{kstate.NS{Path: filepath.Join(file, "below")}, false},
		{kstate.NS{Path: loop}, false},
		{kstate.NS{Path: socket}, false},
		{kstate.NS{Path: "/" + strings.Repeat("x", 300)}, false},
		{kstate.NS{Path: strings.Repeat("/x", 5000)}, false},
	} {
		h, err := Open(c.ns)
		if err == nil {
			h.Close()
		}
		if c.ok != (err == nil) || err != nil && !errors.Is(err, kernel.ErrNoNamespace) {
			t.Errorf("%s: %v", c.ns, err)
		}
	}
}

func TestDoReturnsError(t *testing.T) {
	h, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	want := errors.New("no")
	if got := h.Do(func() error { return want }); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
