package kstate

import "net/netip"

// Aside says that the default routes which others have in a namespace give way
// to ours. Linux uses the route with the lowest metric, and one that nobody gave
// a metric has the lowest of IPv4: such routes are kept with a metric from
// [AsideMetric] on and under our mark, still there if ours goes. Removing Aside
// puts them back as they were. Of IPv6 there is nothing to do, see [Route.First].
type Aside struct {
	NS NS
	// Partly: some are aside, and another is in their place.
	Partly bool
	Other  bool // nobody has such a route, so it is so without us
}

// AsideMetric is the metric of a route that is aside; the low byte is its
// protocol number as it was.
const AsideMetric uint32 = 0x5ea1_0000

func (o Aside) foreign() bool { return o.Other }

// Key is the namespace.
func (o Aside) Key() Key { return Key{KindRoute, o.NS.String() + " aside"} }

// On is the namespace.
func (o Aside) On() []Key {
	if o.NS.IsHost() {
		return nil
	}
	return []Key{NetNS{NS: o.NS}.Key()}
}

// String is "aside default".
func (o Aside) String() string {
	if o.Partly {
		return o.NS.in("aside some of default")
	}
	return o.NS.in("aside default")
}

// Dst is what the routes lead to: everything, of IPv4.
func (o Aside) Dst() netip.Prefix { return netip.PrefixFrom(netip.IPv4Unspecified(), 0) }
