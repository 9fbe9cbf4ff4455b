package member

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// resign gives a host certificates of another time.
func resign(t *testing.T, h *Host, by *authority, at time.Time) {
	t.Helper()
	old, err := h.dir.certificateNow()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := h.run.requestAgain(old)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := by.papersOf(csr, Record{Name: h.cfg.Name, Addrs: addrsOf(old), Member: h.run.host.Member}, at)
	if err == nil {
		err = h.dir.writePapers(p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAllEnded has all hosts start whose certificates ended while they were off: members
// sign theirs again, and those are on the roster; who is no member says what is to be done.
func TestAllEnded(t *testing.T) {
	clock := &days{}
	var hosts []*Host
	for n := byte(1); n <= 6; n++ {
		hosts = append(hosts, newHost(t, n, clock))
	}
	inv, err := hosts[0].Init(t.Context(), netip.Addr{})
	for i, h := range hosts[1:] {
		if err == nil {
			err = h.Join(t.Context(), inv.Token, inv.Addr, at4(byte(i+2)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "voting", func() bool { return voters(t, hosts[0]) == maxMembers })
	ca, err := hosts[0].dir.authority()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		resign(t, h, ca, time.Now().Add(-nodeLife-time.Hour))
		h.Close()
	}
	for _, h := range hosts {
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
	}
	members, client := hosts[:maxMembers], hosts[maxMembers]
	for _, h := range members {
		within(t, 3*time.Minute, h.cfg.Name+" in a cluster again", func() bool {
			s := h.Status(t.Context())
			return s.Quorum && s.Problem == "" && time.Until(s.Certificate) > nodeLife-time.Hour
		})
	}
	ros, err := readRoster(t.Context(), hosts[0].run.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range members {
		if c, err := h.dir.certificateNow(); err != nil || !ros.hosts[h.cfg.Name].has(c) {
			t.Errorf("%s: the roster has not its certificate: %v", h.cfg.Name, err)
		}
	}
	if s := client.Status(t.Context()); !strings.HasPrefix(s.Problem, "this host's certificate has ended: sealane node rm f on a member") {
		t.Errorf("%+v", s)
	}

	// A clock was ahead when it was signed, and is right again.
	resign(t, hosts[0], ca, time.Now().Add(nodeLife))
	hosts[0].run.keepCertificate(time.Now())
	if c, err := hosts[0].dir.certificateNow(); err != nil || !good(c, time.Now()) {
		t.Errorf("of tomorrow: %v", err)
	}
}

// TestClock has the clock of a member jump, by hours and by more than a certificate's life, on
// and back: whatever it signed meanwhile, it is of the cluster again when the clock is right.
func TestClock(t *testing.T) {
	clocks := []*days{{}, {}, {}}
	var hosts []*Host
	for i, c := range clocks {
		hosts = append(hosts, newHost(t, byte(i+1), c))
	}
	inv, err := hosts[0].Init(t.Context(), netip.Addr{})
	for i, h := range hosts[1:] {
		if err == nil {
			err = h.Join(t.Context(), inv.Token, inv.Addr, at4(byte(i+2)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "voting", func() bool { return voters(t, hosts[0]) == 3 })
	b, clock := hosts[1], clocks[1]
	for _, late := range []int64{-100, 100, -1, 1} {
		t.Logf("late by %d days", late)
		clock.late.Store(late)
		within(t, time.Minute, "noticed", func() bool {
			c, err := b.dir.certificateNow()
			return err == nil && good(c, clock.now())
		})
		if _, err := hosts[0].Store().List(t.Context(), "/coreos.com/network/"); err != nil {
			t.Errorf("the others: %v", err)
		}
		clock.late.Store(0)
		within(t, 2*time.Minute, "in the cluster again", func() bool {
			s := b.Status(t.Context())
			c, err := b.dir.certificateNow()
			return s.Quorum && s.Problem == "" && voters(t, hosts[0]) == 3 && err == nil && good(c, time.Now())
		})
		if _, err := b.Store().List(t.Context(), "/coreos.com/network/"); err != nil {
			t.Errorf("its store: %v", err)
		}
		ros, err := readRoster(t.Context(), hosts[0].run.admin)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := b.dir.certificateNow(); err != nil || !ros.hosts[b.cfg.Name].has(c) {
			t.Errorf("the roster has not its certificate: %v", err)
		}
	}
}

// voters is how many vote.
func voters(t *testing.T, h *Host) (n int) {
	for _, m := range h.Status(t.Context()).Members {
		if m.Voting {
			n++
		}
	}
	return n
}
