package sysctl

import (
	"errors"
	"maps"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

func TestPath(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":                "/proc/sys/net/ipv4/ip_forward",
		"net.ipv6.conf.eth0/1.accept_ra":     "/proc/sys/net/ipv6/conf/eth0.1/accept_ra",
		"net/ipv6/conf/eth0.1/accept_ra":     "/proc/sys/net/ipv6/conf/eth0.1/accept_ra",
		"net.bridge.bridge-nf-call-iptables": "/proc/sys/net/bridge/bridge-nf-call-iptables",
		"":                                   "",
		"net..ipv4":                          "",
		"net.ipv4.":                          "",
		"net/../kernel/panic":                "",
		"net.//.kernel.panic":                "",
		"/net/ipv4":                          "",
		".net":                               "",
	} {
		got, err := Path(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

// inside lets the test run in a fresh namespace, on this thread.
func inside(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func here(f func() error) error { return f() }

func add(name, value string) kstate.Op {
	return kstate.Op{New: kstate.Sysctl{Name: name, Value: value}}
}

func del(name string) kstate.Op { return kstate.Op{Old: kstate.Sysctl{Name: name}} }

func value(t *testing.T, name string) string {
	t.Helper()
	v, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTable(t *testing.T) {
	inside(t)
	const forward, reap = "net.ipv4.ip_forward", "net.ipv4.tcp_rmem"
	before := value(t, reap)
	j := &journal.Memory{}
	table := New(j, here)
	if err := table.Apply([]kstate.Op{add(forward, "1"), add(reap, "4096 8192 16384"), add(forward, "1")}); err != nil {
		t.Fatal(err)
	}
	got, err := table.Observe()
	want := []kstate.Object{kstate.Sysctl{Name: forward, Value: "1"}, kstate.Sysctl{Name: reap, Value: "4096 8192 16384"}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("observed %v, %v; want %v", got, err, want)
	}
	// A new process, which only has the journal.
	if err := New(j, here).Apply([]kstate.Op{del(forward), del(reap), del(reap)}); err != nil {
		t.Fatal(err)
	}
	entries, _ := j.Entries()
	if value(t, forward) != "0" || value(t, reap) != before || len(entries) > 0 {
		t.Errorf("%s, %s, journal %v", value(t, forward), value(t, reap), entries)
	}
}

func TestTableRefuses(t *testing.T) {
	inside(t)
	before := value(t, "net.ipv4.conf.all.rp_filter")
	j := &journal.Memory{}
	err := New(j, here).Apply([]kstate.Op{
		add("net.ipv4.nosuch", "1"), add("net.ipv4.ip_forward", "many"), add("net.ipv4.conf.all.rp_filter", "2"),
	})
	var oe *kernel.OpError
	if !errors.Is(err, kernel.ErrMissing) || !errors.As(err, &oe) || oe.Op != add("net.ipv4.nosuch", "1") {
		t.Errorf("error is %v", err)
	}
	entries, _ := j.Entries()
	if want := map[string]string{"sysctl/net.ipv4.conf.all.rp_filter": before}; !maps.Equal(entries, want) {
		t.Errorf("journal has %v, want %v", entries, want)
	}
	if v := value(t, "net.ipv4.conf.all.rp_filter"); v != "2" {
		t.Errorf("after the failures: %s", v)
	}
}

// A setting goes with its device; its entry must not stay for ever.
func TestTableOfAGoneDevice(t *testing.T) {
	inside(t)
	j := &journal.Memory{}
	if err := j.Put("sysctl/net.ipv4.conf.gone0.rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	table := New(j, here)
	if got, err := table.Observe(); err != nil || len(got) > 0 {
		t.Errorf("observed %v, %v", got, err)
	}
	if entries, _ := j.Entries(); len(entries) > 0 {
		t.Errorf("journal has %v", entries)
	}
}

// The journal has the value before any change, whatever comes between.
func TestTableJournalsFirst(t *testing.T) {
	inside(t)
	failing := &full{}
	if err := New(failing, here).Apply([]kstate.Op{add("net.ipv4.ip_forward", "1")}); err == nil {
		t.Error("no error from a journal that cannot be written")
	}
	if v := value(t, "net.ipv4.ip_forward"); v != "0" {
		t.Errorf("changed to %s without an entry", v)
	}
}

// full is a journal on a full disk.
type full struct{ journal.Memory }

func (*full) Put(string, string) error { return unix.ENOSPC }
