package announce

import (
	"context"

	"golang.org/x/net/bpf"

	"github.com/sealane/sealane/internal/serve/wire"
)

// fromInside sends one message for each address of r from its interface in the
// sandbox. An interface of a macvlan, of Open vSwitch or a NIC leads to its wire
// by itself, and nothing but what it sends does.
func (a *Announcer) fromInside(r *run) outcome {
	s, err := wire.Open(context.Background(), r.inside, 0, []bpf.Instruction{bpf.RetConstant{}})
	if err != nil { // it is gone, with whom it was for
		a.log.Debug("announce", "device", r.inside.Device, "in", r.inside.NS, "err", err)
		return over
	}
	defer s.Close()
	if !s.Running(r.inside.Device) {
		return early
	}
	for _, addr := range r.addrs {
		if err := s.Send(announcement(s.MAC, addr)); err != nil {
			a.log.Debug("announce", "device", r.inside.Device, "in", r.inside.NS, "err", err)
		}
	}
	r.sent++
	return sent
}
