package kstate

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
)

// Route is a route. Those of others are told of the main table, and of those that
// their rules have asked before it, the default ones left out.
type Route struct {
	NS    NS
	Dst   netip.Prefix // 0.0.0.0/0 or ::/0 is the default route
	Via   netip.Addr   // zero: on-link
	Dev   string
	Src   netip.Addr // what the host's own packets leave with; zero: the kernel's choice
	Other bool
	Table int // of the host: 0 is the main one; others count by a [Rule], or a rule of others, alone

	Metric uint32 // of one that is not ours: the lowest to a destination is used

	// First, of a default route of IPv6: before those of others, by a metric
	// that is lower than what the kernel gives them. See [Aside] for IPv4.
	First bool

	// Onlink: Via is on the device, although no address there says so
	// (RTNH_F_ONLINK). Of those of others it is not told.
	Onlink bool
	// Blackhole drops what is for Dst without a word. It has no Via, Dev nor Src.
	// Those of others are not told.
	Blackhole bool
	// MTU is the largest packet that goes this way, in bytes (RTAX_MTU); 0 is the
	// device's. Of those of others it is not told.
	MTU int
}

func (o Route) foreign() bool { return o.Other }

// Key is the destination and the table, and the device for routes that are not
// ours: a host may have several to one destination.
func (o Route) Key() Key {
	id := o.NS.String() + " " + o.Dst.String() + o.table()
	if o.Other {
		id += " other " + o.Via.String() + " " + o.Dev
	}
	return Key{KindRoute, id}
}

// On is the device, its being up, and for IPv4 its addresses: the kernel drops the
// routes of a device, in all tables, with the last one (fib_inetaddr_event in
// net/ipv4/fib_frontend.c). One whose device never had any is none the worse. A blackhole stands on its namespace alone.
func (o Route) On() []Key {
	switch {
	case o.Blackhole && o.NS.IsHost():
		return nil
	case o.Blackhole:
		return []Key{NetNS{NS: o.NS}.Key()}
	}
	on := []Key{linkKey(o.NS, o.Dev), upKey(o.NS, o.Dev)}
	if o.Dst.Addr().Is4() {
		on = append(on, ip4Key(o.NS, o.Dev))
	}
	return on
}

// Check says what no kernel can make of it, whatever else there is.
func (o Route) Check() error {
	switch {
	case !o.Dst.IsValid() || o.Dst != o.Dst.Masked():
		return fmt.Errorf("%s has host bits", o.Dst)
	case o.Blackhole && (o.Via.IsValid() || o.Dev != "" || o.Src.IsValid() || o.Onlink || o.MTU != 0):
		return errors.New("a blackhole leads nowhere")
	case o.Onlink && !o.Via.IsValid():
		return errors.New("onlink: there is no gateway")
	case o.Table == mainTable || o.Table == localTable:
		return fmt.Errorf("table %d: is one of the kernel's own", o.Table)
	case o.Table != 0 && !o.NS.IsHost():
		return errors.New("tables are the host's")
	case o.Table < 0 || o.Table > math.MaxInt32:
		return fmt.Errorf("table %d: out of range", o.Table)
	}
	return nil
}

// The numbers of the kernel's own tables (linux/rtnetlink.h).
const (
	mainTable  = 254
	localTable = 255
)

// table is the text of a table that is not the main one.
func (o Route) table() string {
	if o.Table == 0 {
		return ""
	}
	return " table " + strconv.Itoa(o.Table)
}

// String is "route DST via A dev DEV table N", or "route DST blackhole".
func (o Route) String() string {
	s := "route " + o.Dst.String()
	if o.Dst.Bits() == 0 {
		s = "route default"
		if o.Dst.Addr().Is6() {
			s = "route default6"
		}
	}
	if o.Via.IsValid() {
		s += " via " + o.Via.String()
	}
	if o.Blackhole {
		s += " blackhole"
	} else {
		s += " dev " + o.Dev
	}
	if o.Onlink {
		s += " onlink"
	}
	if o.Src.IsValid() {
		s += " src " + o.Src.String()
	}
	if o.MTU != 0 {
		s += " mtu " + strconv.Itoa(o.MTU)
	}
	if o.First {
		s += " first"
	}
	return o.NS.in(s + o.table())
}
