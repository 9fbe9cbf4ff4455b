package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// envInside says that the tests are in a network namespace of their own.
const envInside = "SEALANE_MEMBER_TEST_INSIDE"

// TestMain runs the tests where nothing but them is on the network, with an address
// for each host.
func TestMain(m *testing.M) {
	if os.Getenv(envInside) == "" {
		os.Exit(inside())
	}
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // whose parent was here
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", "192.0.2.0/24", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip %v: %v: %s\n", args, err, out)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// inside runs this test binary again, in namespaces of its own.
func inside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// days is a clock that is late by so many.
type days struct{ late atomic.Int64 }

func (d *days) now() time.Time { return time.Now().Add(-time.Duration(d.late.Load()) * 24 * time.Hour) }

// newHost is one of several in this process.
func newHost(t *testing.T, n byte, clock *days) *Host {
	t.Helper()
	h := New(Config{
		Dir: filepath.Join(t.TempDir(), "cluster"), Name: string('a' + rune(n) - 1), Prefix: "/coreos.com/network",
		Ports: Ports{2379, 2380, 2378}, Now: clock.now, Log: slog.New(slog.DiscardHandler), Begin: func() {},
		ID:    func() (string, error) { return nodeID(string('a' + rune(n) - 1)), nil },
		Addrs: func(context.Context) ([]netip.Addr, error) { return []netip.Addr{at4(n)}, nil },
		End:   func(context.Context, bool) error { return nil },
	})
	t.Cleanup(h.Close)
	return h
}

// nodeID is a host's in leases.
func nodeID(name string) string { return "id-of-host-" + name }

// TestSixHosts has a cluster of five members and a client, whose certificates are to
// be renewed.
func TestSixHosts(t *testing.T) {
	clock := &days{}
	clock.late.Store(65)
	var hosts []*Host
	for n := byte(1); n <= 6; n++ {
		hosts = append(hosts, newHost(t, n, clock))
	}
	a, f := hosts[0], hosts[5]
	inv, err := a.Init(t.Context(), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hosts[1:] {
		if err := h.Join(t.Context(), inv.Token, inv.Addr, at4(byte(i+2))); err != nil {
			t.Fatal(err)
		}
	}
	if role := f.Status(t.Context()).Role; role != RoleClient {
		t.Errorf("the sixth is a %s", role)
	}
	if _, err := f.dir.read(fileCAKey); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a client has the CA's key: %v", err)
	}
	within(t, 20*time.Second, "five vote", func() bool {
		voters := 0
		for _, m := range f.Status(t.Context()).Members {
			if m.Voting && m.Healthy {
				voters++
			}
		}
		return voters == maxMembers
	})
	clone := newHost(t, 9, clock)
	clone.cfg.ID = a.cfg.ID
	if err := clone.Join(t.Context(), inv.Token, inv.Addr, at4(9)); model.KindOf(err) != model.Conflict {
		t.Errorf("a clone of a: %v", err)
	}
	twice := newHost(t, 2, clock)
	err = twice.Join(t.Context(), inv.Token, inv.Addr, at4(9))
	if model.KindOf(err) != model.Conflict {
		t.Errorf("a second b: %v", err)
	}
	g := newHost(t, 7, clock)
	if err := g.Join(t.Context(), inv.Token, inv.Addr, at4(7)); err != nil {
		t.Fatal(err)
	}
	outsiders(t, g)
	if all, err := a.Hosts(t.Context()); err != nil || len(all) != 6 {
		t.Errorf("%d hosts when one has left, %v", len(all), err)
	}
	if _, err := a.Invite(t.Context(), false); err != nil {
		t.Errorf("the token went with who left: %v", err)
	}
	renewed(t, a, clock)
	renewed(t, f, clock)
	removed(t, a, f)
	if _, err := a.Invite(t.Context(), false); model.KindOf(err) != model.NotFound {
		t.Errorf("who was removed may know the token, which is good: %v", err)
	}
	risen(t, hosts, clock)
}

// risen has a host that is no member take the place of one that is removed.
func risen(t *testing.T, hosts []*Host, clock *days) {
	t.Helper()
	a, b, h := hosts[0], hosts[1], newHost(t, 8, clock)
	inv, err := a.Invite(t.Context(), true)
	if err == nil {
		err = h.Join(t.Context(), inv.Token, inv.Addr, at4(8))
	}
	if err != nil {
		t.Fatal(err)
	}
	if role := h.Status(t.Context()).Role; role != RoleClient {
		t.Fatalf("h is a %s", role)
	}
	if err := h.run.askMember(t.Context(), pathRise, riseRequest{}, &joinAnswer{}); model.KindOf(err) != model.Denied {
		t.Errorf("a sixth member: %v", err)
	}
	if err := a.Remove(t.Context(), b.cfg.Name); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "five vote again", func() bool {
		s := h.Status(t.Context())
		voters := 0
		for _, m := range s.Members {
			if m.Voting && m.Healthy {
				voters++
			}
		}
		return s.Role == RoleVoter && voters == maxMembers
	})
	if _, err := h.Invite(t.Context(), true); err != nil {
		t.Errorf("a member makes no token: %v", err)
	}
}

// renewed has a host's certificate come to its last third.
func renewed(t *testing.T, h *Host, clock *days) {
	t.Helper()
	clock.late.Store(65)
	defer clock.late.Store(0)
	old, err := h.dir.certificateNow()
	if err != nil {
		t.Fatal(err)
	}
	h.run.keepCertificate(clock.now())
	if same, _ := h.dir.certificateNow(); same == nil || !same.Equal(old) {
		t.Fatal("renewed when nothing called for it")
	}
	clock.late.Store(0)
	within(t, 20*time.Second, "renewed", func() bool {
		h.run.keepCertificate(clock.now())
		c, err := h.dir.certificateNow()
		return err == nil && !c.Equal(old) && c.NotAfter.Sub(time.Now()) > nodeLife-time.Hour
	})
	if _, err := h.Hosts(t.Context()); err != nil {
		t.Error(err)
	}
}

// removed has one host remove another, which watches the store meanwhile.
func removed(t *testing.T, by, h *Host) {
	t.Helper()
	snap, err := h.Store().List(t.Context(), "/coreos.com/network/")
	if err != nil {
		t.Fatal(err)
	}
	watch := h.Store().Watch(t.Context(), "/coreos.com/network/", snap.Rev)
	<-watch // in touch
	if err := by.Remove(t.Context(), h.cfg.Name); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "refused", func() bool {
		_, err := h.Store().List(t.Context(), "/coreos.com/network/")
		return errors.Is(err, cluster.ErrRefused)
	})
	old, err := h.dir.certificateNow()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.run.renewOwn(old); err == nil {
		t.Error("a host that was removed has its certificate renewed")
	}
	if _, _, err := by.run.admin.Commit(t.Context(), cluster.Txn{Put: []cluster.Put{{Key: "/coreos.com/network/secret", Value: []byte("s")}}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(3 * time.Second); ; {
		select {
		case b, ok := <-watch:
			if len(b.Changes) > 0 {
				t.Fatal("a host that was removed still hears of changes")
			}
			if !ok {
				return
			}
		case <-deadline:
			return
		}
	}
}

func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s within %s", what, limit)
		}
	}
}

// TestRenamed has a host whose name is another when its daemon starts again: to the
// cluster it is who joined, also where it says who it is.
func TestRenamed(t *testing.T) {
	h := newHost(t, 1, &days{})
	if _, err := h.Init(t.Context(), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	h.Close()
	c := h.cfg
	c.Name = "other"
	again := New(c)
	t.Cleanup(again.Close)
	if err := again.Start(); err != nil || again.Name() != "a" {
		t.Fatalf("%s: %v", again.Name(), err)
	}
	within(t, 20*time.Second, "well", func() bool { return again.Status(t.Context()).Quorum })
	if err := again.Remove(t.Context(), "a"); model.KindOf(err) != model.Invalid {
		t.Errorf("it removes itself: %v", err)
	}
	if err := again.Leave(t.Context(), false); err != nil {
		t.Error(err)
	}
}

// TestBroken has a host whose directory is damaged: it starts alone, and can forget it.
func TestBroken(t *testing.T) {
	h := newHost(t, 1, &days{})
	if err := os.MkdirAll(h.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.dir.write(fileHost, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if h.Start() == nil || !h.Used() {
		t.Fatal("it starts as if nothing was wrong")
	}
	if s := h.Status(t.Context()); !s.In || s.Problem == "" {
		t.Errorf("status: %+v", s)
	}
	if h.Leave(t.Context(), false) == nil {
		t.Error("it is forgotten without force")
	}
	if err := h.Leave(t.Context(), true); err != nil || h.Used() || h.Status(t.Context()).In {
		t.Errorf("it is not forgotten: %v", err)
	}
}
