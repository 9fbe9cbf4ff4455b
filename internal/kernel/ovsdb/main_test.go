package ovsdb

import (
	"io/fs"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/openvswitch"
)

// rig is an Open vSwitch and a door to it.
type rig struct {
	*testing.T
	openvswitch.OVS
	*Conn
}

func start(t *testing.T) *rig {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, OVS: openvswitch.Here(t)}
	r.Conn = New(r.Socket(), space(t), func(dev string) (int, error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(dev)
		if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) != nil {
			return 0, fs.ErrNotExist
		}
		return int(req.Uint32()), nil
	})
	r.Tap = func(dev string) bool {
		out, _ := exec.Command("ip", "-o", "-d", "link", "show", dev, "type", "tun").Output()
		return strings.Contains(string(out), "type tap")
	}
	t.Cleanup(func() { _ = r.Conn.Close() })
	return r
}

// running returns a rig whose Open vSwitch runs, with devices.
func running(t *testing.T, devices ...string) *rig {
	t.Helper()
	r := start(t)
	r.up()
	for _, d := range devices {
		r.veth(d)
	}
	return r
}

func space(t *testing.T) uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) up(programs ...string) { r.Helper(); r.must(r.OVS.Start(programs...)) }

func (r *rig) ctl(command string) string {
	r.Helper()
	out, err := r.Ctl(command)
	r.must(err)
	return strings.TrimSpace(out)
}

// says checks what ovs-vsctl answers.
func (r *rig) says(command, want string) {
	r.Helper()
	if got := r.ctl(command); got != want {
		r.Errorf("%s: %s, want %s", command, got, want)
	}
}

func (r *rig) veth(name string) {
	r.Helper()
	out, err := exec.Command("ip", "link", "add", name, "up", "type", "veth", "peer", "name", name+"p").CombinedOutput()
	if err != nil {
		r.Fatalf("%v: %s", err, out)
	}
}

func (r *rig) cut(name string) { r.Helper(); r.must(exec.Command("ip", "link", "del", name).Run()) }

// holds checks what is observed of ours.
func (r *rig) holds(objs ...kstate.Object) {
	r.Helper()
	want, have := kstate.Set{}, kstate.Set{}
	r.must(want.Add(objs...))
	got, err := r.Observe()
	r.must(err)
	r.must(have.Add(got...))
	if have.String() != want.String() {
		r.Fatalf("there is\n%swant\n%s", have, want)
	}
}

func (r *rig) add(objs ...kstate.Object) { r.Helper(); r.must(r.Apply(kerneltest.Adds(objs...))) }
