package ipam

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

func TestPortsMove(t *testing.T) {
	p := NewPorts()
	local, any4 := netip.MustParseAddr("127.0.0.1"), netip.IPv4Unspecified()
	m := model.PortMapping{Proto: "tcp", HostPort: 8080, Port: 80, Count: 2}
	at := func(a netip.Addr) model.PortMapping { n := m; n.HostIP = a; return n }
	if _, err := p.Allocate(m, "web", nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Move(at(local), netip.Addr{}, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Allocate(at(any4), "other", nil); err == nil {
		t.Error("both claims stand until one is released, and 0.0.0.0 meets them")
	}
	p.Release(m)
	if owner, port, ok := p.Lookup("tcp", netip.MustParseAddrPort("127.0.0.1:8081")); !ok || owner != "web" || port != 81 {
		t.Errorf("127.0.0.1:8081: %s %d %v", owner, port, ok)
	}
	if _, err := p.Allocate(at(netip.IPv6Unspecified()), "six", nil); err != nil {
		t.Errorf("[::] meets no IPv4 address: %v", err)
	}
	taken, ok := errors.AsType[*ConflictError](p.Move(m, local, "web"))
	if !ok || taken.Owner != "six" {
		t.Errorf("a move to every address: %v, want a conflict with six", taken)
	}
	if err := p.Move(at(any4), local, "web"); err != nil {
		t.Errorf("a move past one's own claim: %v", err)
	}
}
