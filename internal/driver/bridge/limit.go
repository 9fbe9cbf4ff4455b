package bridge

import (
	"cmp"
	"math"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// limits returns what keeps an endpoint to its rates:
//
//	 host                                              sandbox
//	┌────────────────────────────────────────┐        ┌──────────┐
//	│ bridge ──▶ slv<endpoint> ── shaper ────┼──veth──┼─▶ eth0   │
//	│   ▲          redirect ◀────────────────┼──veth──┼── eth0   │
//	│   │             ▼                      │        │          │
//	│   └─────── sli<endpoint>, shaper       │        └──────────┘
//	└────────────────────────────────────────┘
//
// All of it is on the host's side, where the sandbox cannot undo it. What is too
// fast waits, both ways, as TCP takes a loss for less than there is; and the
// sandbox's own TCP is held back without one, for a frame belongs to its sender
// until the bridge has it.
func limits(n *model.Network, e *model.Endpoint) []kstate.Object {
	var objs []kstate.Object
	mtu := cmp.Or(n.Options.MTU, defaultMTU)
	if e.Limits.Ingress.Rate > 0 {
		objs = append(objs, shaper(e.Device(), e.Limits.Ingress, mtu))
	}
	if e.Limits.Egress.Rate > 0 {
		side := kstate.Link{Name: e.Side(), Type: kstate.TypeIFB, MTU: n.Options.MTU, MAC: model.MACForID(model.MACSide, e.ID),
			Up: true, NoARP: true, Alias: "sealane " + n.Name}
		objs = append(objs, side, shaper(side.Name, e.Limits.Egress, mtu), kstate.Redirect{Dev: e.Device(), To: side.Name})
	}
	return objs
}

const (
	defaultMTU = 1500 // bytes
	framing    = 18   // bytes around a packet: Ethernet's header and a VLAN's tag
	patience   = 40   // the queue holds what goes in this part of a second
	fewest     = 10   // frames in a burst that nobody chose, and in a queue
	largest    = 64 << 10
)

// shaper returns what keeps a device to a limit. A burst that nobody chose is
// what goes in 25 ms; none is too small for a frame. The queue has room for what
// goes in 25 ms, so that nothing waits for long, and for a few frames or one
// segment of TCP that is not cut into frames yet, up to 64 KiB: those that the
// burst does not hold are cut before (tbf_segment in net/sched/sch_tbf.c).
func shaper(dev string, l model.Limit, mtu int) kstate.Shaper {
	frame := uint64(mtu + framing)
	rate := l.Rate / 8
	few := fewest * frame
	burst := max(rate/patience, few)
	if l.Burst > 0 {
		burst = max((l.Burst+7)/8, frame)
	}
	burst = min(burst, math.MaxUint32)
	queue := min(rate/patience+max(min(burst, largest), few), math.MaxUint32)
	return kstate.Shaper{Dev: dev, Rate: rate, Burst: uint32(burst), Queue: uint32(queue)}
}
