package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// TestJoined: as Docker's TestMacvlanIPAMOverlap and TestIpvlanIPAMOverlap, with their numbers.
func TestJoined(t *testing.T) {
	of := func(r, gateway, aux string) *Pool {
		s := model.Subnet{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Range: netip.MustParsePrefix(r)}
		s.Gateway, _ = netip.ParseAddr(gateway)
		if a, err := netip.ParseAddr(aux); err == nil {
			s.Aux = map[string]netip.Addr{"reserved": a}
		}
		return NewPool(s)
	}
	one := of("192.168.0.0/25", "192.168.0.1", "192.168.0.100")
	two := of("192.168.0.0/24", "", "")
	two.Join(one)
	three := of("192.168.0.128/25", "192.168.0.1", "")
	three.Join(one)
	three.Join(two)
	usage := func(want string) {
		t.Helper()
		got := ""
		for _, p := range []*Pool{one, two, three} {
			u := p.Usage(t0)
			got += fmt.Sprint(u.InUse, " ", u.Free, " ", u.Resting, ", ")
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	usage("4 125 0, 4 252 0, 4 127 0, ")
	a, err := one.Allocate("web", t0)
	if err != nil || a.String() != "192.168.0.2" {
		t.Fatal(a, err)
	}
	usage("5 124 0, 5 251 0, 5 127 0, ")
	for _, p := range []*Pool{one, two, three} {
		if err := p.Claim(a, "x"); err == nil || !strings.HasSuffix(err.Error(), "taken by web") {
			t.Errorf("taken: %v", err)
		}
		if err := p.Claim(netip.MustParseAddr("192.168.0.100"), "x"); err == nil {
			t.Error("an aux address of the other")
		}
	}
	if b, err := two.Allocate("db", t0); err != nil || b.String() != "192.168.0.3" {
		t.Errorf("got %v %v, want the next that none has", b, err)
	}

	// What one frees rests in all, and is given when nothing else is left.
	one.Release(a, t0)
	usage("5 124 1, 5 251 1, 5 127 0, ")
	left := all(two, 300)
	if len(left) != 251 || left[len(left)-1] != a {
		t.Errorf("%d addresses, the last %s", len(left), left[len(left)-1])
	}
	usage("256 0 0, 256 0 0, 256 0 0, ")

	// Who leaves knows nothing of the others, and they nothing of it.
	two.Leave()
	usage("4 125 1, 254 2 0, 4 127 0, ")
	if err := one.Claim(a, "x"); err != nil {
		t.Error(err)
	}
}
