// Package trace says which way a packet goes, and why. It follows the packet
// through what the kernel has, step by step as the kernel decides: addresses,
// routes, bridges, the firewall, neighbours, tunnels. Beside each decision it holds
// what intent wants there, so that what is missing is named where it is missed.
//
//	eth0 in a sandbox ─▶ slv… ─▶ slb… ─▶ route ─▶ forward ─▶ postrouting ─┬▶ slb… ─▶ slv… ─▶ eth0 in another
//	                                                                      ├▶ eth0 ─▶ a router
//	                      │                                               └▶ slt… ─▶ neighbour ─▶ FDB ─▶ UDP by eth0 ─▶ another host
//	                      └▶ slx… ─▶ neighbour ─▶ FDB ─▶ UDP by eth0 ─▶ another host
//
// The packet is the first of a flow, of no protocol in particular unless a port was asked
// about. Where the host chooses between several ways, each is followed, and one is told.
// The package looks at nothing itself: it is given what was seen.
package trace

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// World is one host at one time.
type World struct {
	Have   kstate.Set // what the kernel has, in the host and in the sandboxes asked about
	Want   kstate.Set // what it is to have, of ours
	Intent compile.Intent
	Leases map[model.ID]Leases // of networks that span hosts
	// Filters are the chains of others' firewalls. They are named, not followed.
	Filters []kstate.Filter
}

// Leases is how much what is known of the other hosts of a network is worth.
type Leases struct {
	InTouch bool      // with the cluster's store
	Since   time.Time // that it is so; zero: unknown
}

// Question is where a packet starts and where it is to go.
type Question struct {
	From *model.Sandbox // nil: the host
	To   *model.Sandbox // nil: To is only Addr
	Addr netip.Addr     // zero: an address of To's that From reaches most directly

	// FromMates and ToMates are instead of From and To what a sandbox on another host
	// has on overlay networks.
	FromMates, ToMates []*model.Far

	// Outside is instead of From the address of somebody beyond the host's devices. Without
	// a destination it asks the host at its address there.
	Outside netip.Addr

	// Service is instead of To the service that is asked for by its name; Backend, if it
	// is not "", is the endpoint whose way is to be told of those of a service, also one
	// asked for by its address.
	Service *model.Service
	Backend model.ID
	// Port and Proto ("tcp", "udp" or "sctp") are where a flow is to go; 0: the first port
	// of a service, and none in particular elsewhere.
	Port  uint16
	Proto string
}

// Answer is the way of a packet and the way of the answer to it.
type Answer struct {
	There Way
	Back  *Way // nil: nothing arrives that could be answered by what this host knows of
}

// Way is one direction.
type Way struct {
	Src, Dst netip.Addr // as the packet starts
	Steps    []Step
	Arrives  bool   // at its destination, or where this host has no more say
	Why      string // it does not
	MTU      int    // the largest packet that fits all the way, bytes; 0: unknown
}

// Step is one decision on the way.
type Step struct {
	Where   string // "host", "sandbox NAME", or "host ADDRESS", another one
	Device  string // "": no device's
	MTU     int    // of the device, or of the route if that has one, bytes; 0: unknown
	What    string
	Problem bool // it is not as intended, or ends the way
}

// String is the step in one line.
func (s Step) String() string {
	line := s.Where
	if s.Device != "" {
		line += " " + s.Device
	}
	if s.MTU != 0 {
		line += fmt.Sprintf(" (mtu %d)", s.MTU)
	}
	if s.Problem {
		return line + "! " + s.What
	}
	return line + ": " + s.What
}

// Explain answers a question. The error says that it makes no sense; that there is no
// way is an answer.
func Explain(w World, q Question) (Answer, error) {
	q.From, q.To = lodging(w.Intent, q.From), lodging(w.Intent, q.To)
	if len(q.FromMates) > 0 {
		return explainInto(w, q)
	}
	src, dst, err := ends(w, q)
	if err != nil {
		return Answer{}, err
	}
	there := &walk{sight: newSight(w), src: src, dst: dst, proto: q.Proto, dport: q.Port, backend: q.Backend}
	there.way.Dst = dst
	switch {
	case q.Outside.IsValid():
		there.src = q.Outside
		there.fromOutside()
	case q.Service != nil && !there.resolve(q.From, q.Service):
	case q.Service != nil && q.Service.DNSRR:
		there.straight(q.From, q.Service)
	case there.connect(q.From):
	default:
		there.begin(q.From)
	}
	return there.both(), nil
}

// both is the way that was walked, and the way of the answer.
func (w *walk) both() Answer {
	a := Answer{There: w.way}
	if a.There.Arrives && !w.lost {
		back := w.answer()
		a.Back = &back
	}
	return a
}

// lodging is the sandbox in whose namespace another one lives, with its endpoints.
func lodging(in compile.Intent, sb *model.Sandbox) *model.Sandbox {
	if sb != nil && sb.Mode == model.ModeShared && in.Sandboxes[sb.Donor] != nil {
		return in.Sandboxes[sb.Donor]
	}
	return sb
}

// ends returns the addresses of the packet. The source is zero where the route
// decides it.
func ends(w World, q Question) (src, dst netip.Addr, err error) {
	if q.From != nil && !q.From.Live() {
		return src, dst, fmt.Errorf("%s: does not run", q.From.Ref())
	}
	switch {
	case q.Service != nil:
		return endsAt(q)
	case q.Outside.IsValid() && q.To == nil && len(q.ToMates) == 0:
		return q.Outside, q.Addr, nil
	}
	if q.To == nil && len(q.ToMates) == 0 && !q.Addr.IsValid() {
		return src, dst, errors.New("nowhere to go")
	}
	dst = q.Addr
	switch {
	case dst.IsValid():
	case len(q.ToMates) > 0:
		if dst = nearestMate(w.Intent, q.From, q.ToMates); !dst.IsValid() {
			return src, dst, fmt.Errorf("%s: has no address that %s could send to", mateName(q.ToMates[0]), placeName(q.From))
		}
	case !q.To.Live():
		return src, dst, fmt.Errorf("%s: does not run", q.To.Ref())
	default:
		if dst = nearest(w.Intent, q.From, q.To); !dst.IsValid() {
			return src, dst, fmt.Errorf("%s: has no address that %s could send to", q.To.Ref(), placeName(q.From))
		}
	}
	if !speaks(q.From, dst.Is6()) {
		return src, dst, fmt.Errorf("%s: has no %s address to send to %s from", q.From.Ref(), family(dst.Is6()), dst)
	}
	return src, dst, nil
}

// endsAt is ends for a service. Where its name means its backends the destination is zero
// until one is chosen.
func endsAt(q Question) (src, dst netip.Addr, err error) {
	if dst = vip(q.From, q.Service); !dst.IsValid() && !q.Service.DNSRR {
		return src, dst, fmt.Errorf("%s: has no address that %s could send to", q.Service.Ref(), placeName(q.From))
	}
	return src, dst, nil
}

// nearest chooses the address of a sandbox that another one, or the host, sends to: one
// on a network of both, then one of the endpoint that gives it its default route.
func nearest(in compile.Intent, from, to *model.Sandbox) netip.Addr {
	type choice struct {
		addr netip.Addr
		rank int
	}
	var list []choice
	for i := range to.Endpoints {
		ep := &to.Endpoints[i]
		for _, p := range slices.Concat(ep.Addrs, ep.Outside) {
			a := p.Addr()
			if !speaks(from, a.Is6()) {
				continue
			}
			rank := 2
			switch {
			case from != nil && from.Endpoint(ep.Network) != nil:
				rank = 0
			case compile.Gateway(to, in.Networks, a.Is6()) == ep:
				rank = 1
			}
			list = append(list, choice{a, rank})
		}
	}
	if len(list) == 0 {
		return netip.Addr{}
	}
	best := slices.MinFunc(list, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.addr.BitLen(), b.addr.BitLen()))
	})
	return best.addr
}

// speaks reports whether a sandbox, or the host, has addresses of a family.
func speaks(sb *model.Sandbox, is6 bool) bool {
	return sb == nil || len(sb.Endpoints) == 0 || slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.Has(is6) })
}

func placeName(sb *model.Sandbox) string {
	if sb == nil {
		return hostName
	}
	return sb.Ref()
}

func family(is6 bool) string {
	if is6 {
		return "IPv6"
	}
	return "IPv4"
}
