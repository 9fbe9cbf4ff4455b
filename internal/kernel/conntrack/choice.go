package conntrack

import (
	"iter"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// Choice is a service, or a container's published port, as clients ask for it, and
// the backend that was chosen, or the container. What is published at all addresses of the
// host is at the unspecified one.
type Choice struct {
	Service, Backend netip.AddrPort

	// Port is the protocol if it is a published port, which ends for all its flows; 0 if it is
	// a service's, by TCP: what a backend has begun to answer goes on. That of a service by
	// UDP ends if its backend is chosen at another one instead: who drains is at none.
	Port uint8
}

// Unchosen are the choices that are not made any more: their connections are to begin
// anew, and be sent to another backend. False has those that are made since.
type Unchosen map[Choice]bool

// Add adds the choices that ops, applied at once, take away (package compile: backend, target
// and target_at, ports, ports_at and ranges, of both families), and those that they make in
// their place. Backends change places in these maps: what counts is how many each has lost.
func (u Unchosen) Add(ops []kstate.Op) {
	places := map[Choice]int{}
	for _, op := range ops {
		for c := range choices(op.Old) {
			places[c]--
		}
	}
	if len(places)+len(u) == 0 {
		return
	}
	for _, op := range ops {
		for c := range choices(op.New) {
			places[c]++
		}
	}
	for c, n := range places {
		if n != 0 && (n > 0 || c.Port != unix.IPPROTO_UDP || elsewhere(places, c)) {
			u[c] = n < 0
		}
	}
}

// elsewhere reports whether a backend has come to be chosen at another port than it was.
func elsewhere(places map[Choice]int, was Choice) bool {
	for c, n := range places {
		if n > 0 && c.Port == was.Port && c.Backend == was.Backend {
			return true
		}
	}
	return false
}

// of reports whether some are published ports of a protocol.
func (u Unchosen) of(proto uint8) bool {
	for c := range u {
		if c.Port == proto {
			return true
		}
	}
	return false
}

// has reports whether a flow that asked for a service, or at all addresses of the host for its
// port, was sent where none of them leads now.
func (u Unchosen) has(asked, at netip.AddrPort, proto uint8) bool {
	gone := false
	for _, service := range []netip.AddrPort{asked, netip.AddrPortFrom(unspecified(asked.Addr()), asked.Port())} {
		lost, known := u[Choice{service, at, proto}]
		if known && !lost {
			return false
		}
		gone = gone || lost
	}
	return gone
}

// choices gives those that an element stands for, if it is one of those maps.
func choices(o kstate.Object) iter.Seq[Choice] {
	return func(yield func(Choice) bool) {
		if c, ok := choosing(o); ok {
			yield(c)
			return
		}
		e, _ := o.(kstate.Elem)
		for name, number := range wholly {
			for asked, place := range translated(e, name) {
				if !yield(Choice{asked, place, number}) {
					return
				}
			}
		}
	}
}

// wholly are the protocols whose flows to a container's port are found by the place they
// were sent to.
var wholly = map[string]uint8{"tcp": unix.IPPROTO_TCP, "sctp": unix.IPPROTO_SCTP}

func choosing(o kstate.Object) (c Choice, ok bool) {
	e, is := o.(kstate.Elem)
	if !is {
		return c, false
	}
	var at []string
	switch e.Set.Name {
	case "backend4", "backend6", "target_at4", "target_at6":
	case "target4":
		at = append(at, "0.0.0.0")
	case "target6":
		at = append(at, "::")
	default:
		return c, false
	}
	at, to := append(at, strings.Split(e.At, " . ")...), strings.Split(e.Value, " . ")
	switch {
	case len(at) < 3 || len(to) != 2:
		return c, false
	case at[1] == "udp" && strings.HasPrefix(e.Set.Name, "target"):
		c.Port = unix.IPPROTO_UDP
	case at[1] != "tcp":
		return c, false
	}
	c.Service, ok = place(at[0], at[2])
	if ok {
		c.Backend, ok = place(to[0], to[1])
	}
	return c, ok
}

func place(addr, port string) (netip.AddrPort, bool) {
	a, errA := netip.ParseAddr(addr)
	n, errN := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), errA == nil && errN == nil
}
