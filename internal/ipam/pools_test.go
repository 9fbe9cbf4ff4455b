package ipam

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// twoPools are those of .1 to .2 and of .9 to .14, of which the router has the first.
func twoPools() Pools {
	return Pools{
		NewPool(model.Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/30")}),
		NewPool(model.Subnet{Prefix: netip.MustParsePrefix("10.0.0.8/29"), Gateway: netip.MustParseAddr("10.0.0.9")}),
	}
}

// TestPools: the first with room gives, and what rests comes last.
func TestPools(t *testing.T) {
	ps, now := twoPools(), time.Unix(1000, 0)
	next := func(want string) {
		t.Helper()
		if a, err := ps.Allocate("web", now); err != nil || a.String() != want {
			t.Errorf("%s, %v, want %s", a, err, want)
		}
	}
	refused := func(a, want string) {
		t.Helper()
		if err := ps.Claim(netip.MustParseAddr(a), "db"); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", a, err, want)
		}
	}
	if err := ps.Claim(netip.MustParseAddr("10.0.0.11"), "db"); err != nil {
		t.Error(err)
	}
	next("10.0.0.1")
	next("10.0.0.2")
	next("10.0.0.10")
	next("10.0.0.12")
	refused("10.0.0.9", "address 10.0.0.9: taken by the gateway")
	refused("10.0.0.2", "address 10.0.0.2: taken by web")
	refused("10.0.0.15", "address 10.0.0.15: is the network or broadcast address of 10.0.0.8/29")
	refused("10.0.0.5", "address 10.0.0.5: outside subnet 10.0.0.0/30 and 10.0.0.8/29")

	ps.Release(netip.MustParseAddr("10.0.0.1"), now)
	ps.Release(netip.MustParseAddr("10.0.0.99"), now)
	next("10.0.0.13") // the one of the first subnet rests
	next("10.0.0.14")
	next("10.0.0.1")
	if _, err := ps.Allocate("web", now); !errors.Is(err, ErrExhausted) || err.Error() != "addresses of 10.0.0.0/30 and 10.0.0.8/29: none is free" {
		t.Error(err)
	}
	ps.Release(netip.MustParseAddr("10.0.0.13"), now)
	now = now.Add(time.Second)
	ps.Release(netip.MustParseAddr("10.0.0.2"), now)
	next("10.0.0.13") // which has rested longer
	ps.Release(netip.MustParseAddr("10.0.0.13"), now)
	now = now.Add(Quarantine)
	next("10.0.0.2") // in order again
	next("10.0.0.13")
	ps.Undo(netip.MustParseAddr("10.0.0.13"))
	next("10.0.0.13")
}

// TestPoolsCursor: what comes next is the same after a restart, in each subnet.
func TestPoolsCursor(t *testing.T) {
	ps, now := twoPools(), time.Unix(1000, 0)
	if got := ps.Cursor(); got != "" {
		t.Errorf("at first %q", got)
	}
	for range 4 {
		if _, err := ps.Allocate("web", now); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := ps.Cursor(), "10.0.0.2,10.0.0.11"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for cursor, want := range map[string]string{
		"10.0.0.1,10.0.0.11": "10.0.0.2", "10.0.0.1": "10.0.0.2", "": "10.0.0.1", "invalid IP": "10.0.0.1", "10.9.9.9": "10.0.0.1",
	} {
		again := twoPools()
		again.SetCursor(cursor)
		if a, err := again.Allocate("web", now); err != nil || a.String() != want {
			t.Errorf("after %q: %s, %v, want %s", cursor, a, err, want)
		}
	}
	full := twoPools()
	full.SetCursor("10.0.0.1,10.0.0.11")
	for _, a := range []string{"10.0.0.1", "10.0.0.2"} {
		if err := full.Claim(netip.MustParseAddr(a), "db"); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := full.Allocate("web", now); err != nil || a.String() != "10.0.0.12" {
		t.Errorf("in the second: %s, %v", a, err)
	}
}

// TestPoolsJoined: only those of one subnet know of each other.
func TestPoolsJoined(t *testing.T) {
	a, now := twoPools(), time.Unix(1000, 0)
	b := Pools{NewPool(model.Subnet{Prefix: netip.MustParsePrefix("10.0.0.16/29")}), NewPool(model.Subnet{Prefix: netip.MustParsePrefix("10.0.0.8/29")})}
	b.Join(a)
	if err := b.Claim(netip.MustParseAddr("10.0.0.10"), "db"); err != nil {
		t.Error(err)
	}
	if err := a.Claim(netip.MustParseAddr("10.0.0.10"), "web"); err == nil || err.Error() != "address 10.0.0.10: taken by db" {
		t.Error(err)
	}
	if got, want := a.Of(netip.MustParsePrefix("10.0.0.8/29")).Usage(now), (Usage{InUse: 4, Reserved: 3, Free: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.Leave()
	if err := a.Claim(netip.MustParseAddr("10.0.0.10"), "web"); err != nil {
		t.Error(err)
	}
	if p := a.Of(netip.MustParsePrefix("10.0.0.16/29")); p != nil {
		t.Error("a subnet that is not there has a pool")
	}
}

func TestUsagePlus(t *testing.T) {
	one := Usage{InUse: 3, Reserved: 2, Free: 4, Resting: 1}
	if got, want := one.Plus(one), (Usage{InUse: 6, Reserved: 4, Free: 8, Resting: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := one.Plus(Usage{Free: math.MaxUint64 - 1}).Free; got != math.MaxUint64 {
		t.Errorf("%d free", got)
	}
}
