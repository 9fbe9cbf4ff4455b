package member

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// TestDataGone has a member lose its data, the one that began the cluster as well as one that
// joined: neither begins anew, as what it was or as a cluster by itself; the others go on, and
// it comes back as one that joins.
func TestDataGone(t *testing.T) {
	clock := &days{}
	hosts := []*Host{newHost(t, 1, clock), newHost(t, 2, clock), newHost(t, 3, clock)}
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
	for _, n := range []byte{1, 3} {
		h := hosts[n-1]
		h.Close()
		if err := os.RemoveAll(h.dir.path(dirEtcd)); err != nil {
			t.Fatal(err)
		}
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		want := h.dir.path(dirEtcd) + " is gone, this member's data: sealane node rm " + h.cfg.Name + " on another, then"
		within(t, 20*time.Second, "said", func() bool { return strings.HasPrefix(h.Status(t.Context()).Problem, want) })
		time.Sleep(again + time.Second)
		if s := h.Status(t.Context()); !strings.HasPrefix(s.Problem, want) {
			t.Errorf("%+v", s)
		}
		other := hosts[1]
		if s := other.Status(t.Context()); !s.Quorum || s.Hosts != 3 || s.Problem != "" {
			t.Errorf("the others: %+v", s)
		}
		if err := other.Remove(t.Context(), h.cfg.Name); err != nil {
			t.Fatal(err)
		}
		if err := h.Leave(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		inv, err := other.Invite(t.Context(), true)
		if err == nil {
			err = h.Join(t.Context(), inv.Token, inv.Addr, at4(n))
		}
		if err != nil {
			t.Fatal(n, err)
		}
		within(t, time.Minute, "voting", func() bool { return voters(t, other) == 3 })
	}
}
