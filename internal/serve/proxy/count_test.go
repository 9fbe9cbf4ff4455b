package proxy

import (
	"log/slog"
	"net/netip"
	"testing"
)

// one serves one port.
type one netip.AddrPort

func (o one) Target(_ string, _ netip.Addr, dst netip.AddrPort) (netip.AddrPort, bool) {
	return netip.AddrPort(o), dst.Port() == 80
}

func TestFlowsAreCounted(t *testing.T) {
	p := &Proxy{flows: newFlows(t.Context(), one(addrPort("172.30.0.2:80")), slog.New(slog.DiscardHandler))}
	p.flows.tcp, p.flows.udp = newCrowd(3, false), newCrowd(3, true)
	for range 5 {
		p.flows.begin("tcp", addr("192.0.2.2"), addrPort("192.0.2.1:80"))
		p.flows.begin("udp", addr("192.0.2.2"), addrPort("192.0.2.1:80"))
		p.flows.begin("udp", addr("192.0.2.2"), addrPort("192.0.2.1:81"))
	}
	got := p.Counts()
	if want := (Count{Open: 3, Most: 3, Begun: 3, Full: 2}); got["tcp"] != want {
		t.Errorf("tcp: %+v, want %+v", got["tcp"], want)
	}
	if want := (Count{Open: 3, Most: 3, Begun: 5, Unserved: 5, Ousted: 2}); got["udp"] != want {
		t.Errorf("udp: %+v, want %+v", got["udp"], want)
	}
}
