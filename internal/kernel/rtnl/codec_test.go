package rtnl

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// sealed returns a message as it is sent, as an answer's buffer.
func sealed(m *message) []byte { m.seal(7, 0); return m.buf }

// body returns a message without its header.
func body(m *message) []byte { return sealed(m)[unix.SizeofNlMsghdr:] }

func aDevice() *message {
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, 9, unix.IFF_UP|unix.IFF_LOWER_UP, 0).
		str(unix.IFLA_IFNAME, "slv1").u32(unix.IFLA_GROUP, groupOurs).u32(unix.IFLA_MTU, 1400).
		attr(unix.IFLA_ADDRESS, []byte{2, 0x5e, 0xa1, 0, 0, 1}).u32(unix.IFLA_MASTER, 3).
		u32(unix.IFLA_LINK, 10).u32(unix.IFLA_LINK_NETNSID, 4).alias("for humans")
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, "veth").str(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		m.nest(unix.IFLA_INFO_SLAVE_DATA, func() { m.u8(unix.IFLA_BRPORT_ISOLATED, 1).u8(unix.IFLA_BRPORT_MODE, 1) })
	})
}

func TestDeviceRoundTrip(t *testing.T) {
	want := device{
		index: 9, name: "slv1", kind: "veth", group: groupOurs, mtu: 1400, mac: "02:5e:a1:00:00:01", up: true,
		master: 3, far: 10, nsid: 4, alias: "for humans", isolated: true, hairpin: true,
	}
	if got := parseDevice(body(aDevice())); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What another kind of master keeps about its port has other numbers.
func TestPortOfABond(t *testing.T) {
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, 9, 0, 0)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_SLAVE_KIND, "bond")
		m.nest(unix.IFLA_INFO_SLAVE_DATA, func() { m.u8(unix.IFLA_BRPORT_MODE, 1) })
	})
	if d := parseDevice(body(m)); d.hairpin || d.isolated {
		t.Errorf("%+v", d)
	}
}

func TestAddressRoundTrip(t *testing.T) {
	for _, s := range []string{"10.0.0.2/24", "192.0.2.1/32", "2001:db8::2/64", "fe80::1/10"} {
		p := netip.MustParsePrefix(s)
		got, ok := parseAddress(body(addrMessage(newMessage(unix.RTM_NEWADDR, 0), p, 5)))
		if !ok || got.prefix != p || got.index != 5 {
			t.Errorf("%s: %+v, %v", s, got, ok)
		}
	}
}

// Many routes to other hosts that come at once are of as many scopes as there are, evenly,
// and none of them means anything else than that of the whole world, which all others have.
func TestScopesOfInteriorRoutes(t *testing.T) {
	const n = 5000
	via := netip.MustParseAddr("192.0.2.1")
	of := map[uint8]int{}
	for i := range n {
		r := kstate.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Via: via}
		of[scope(r, true)]++
		if alone := scope(r, false); alone != unix.RT_SCOPE_UNIVERSE {
			t.Fatalf("%v, which comes alone: %d", r, alone)
		}
	}
	for s, have := range of {
		if s == unix.RT_SCOPE_UNIVERSE || s >= unix.RT_SCOPE_SITE || have > n/interior+1 {
			t.Errorf("scope %d: %d routes of %d", s, have, n)
		}
	}
	all, some := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.5.2.0/24")
	for _, c := range []struct {
		r    kstate.Route
		want uint8
	}{
		{kstate.Route{Dst: all, Via: via}, unix.RT_SCOPE_UNIVERSE},
		{kstate.Route{NS: kstate.NS{Path: "/run/netns/a"}, Dst: some, Via: via}, unix.RT_SCOPE_UNIVERSE},
		{kstate.Route{Dst: some, Blackhole: true}, unix.RT_SCOPE_UNIVERSE},
		{kstate.Route{Dst: some}, unix.RT_SCOPE_LINK},
		{kstate.Route{Dst: netip.MustParsePrefix("2001:db8::/64"), Via: netip.MustParseAddr("fe80::1")}, unix.RT_SCOPE_UNIVERSE},
	} {
		if got := scope(c.r, true); got != c.want {
			t.Errorf("%v: %d, want %d", c.r, got, c.want)
		}
	}
}

func TestRouteRoundTrip(t *testing.T) {
	for _, r := range []kstate.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.1")},
		{Dst: netip.MustParsePrefix("10.1.0.0/16")},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1")},
		{Dst: netip.MustParsePrefix("2001:db8::/32")},
		{Dst: netip.MustParsePrefix("10.5.2.0/24"), Via: netip.MustParseAddr("10.5.2.0"), Onlink: true, MTU: 1400},
		{Dst: netip.MustParsePrefix("2001:db8:2::/64"), Via: netip.MustParseAddr("2001:db8:2::"), Onlink: true, MTU: 1280},
		{Dst: netip.MustParsePrefix("10.5.0.0/16"), Blackhole: true},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1"), Onlink: true, Table: 242250002},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("169.254.0.2"), Onlink: true, Table: 100},
	} {
		got, ok := parseRoute(body(routeMessage(newMessage(unix.RTM_NEWROUTE, 0), r, scope(r, false), 5)))
		if whole := r.Dst == netip.MustParsePrefix("0.0.0.0/0") && r.Table == 0; whole == (got.raw == "") {
			t.Errorf("%s: the message is kept: %v", r, !whole)
		}
		got.raw = ""
		want := route{dst: r.Dst, table: r.Table, via: r.Via, index: 5, protocol: protocol, onlink: r.Onlink, mtu: r.MTU, blackhole: r.Blackhole}
		if r.Blackhole {
			want.index = 0
		}
		if !ok || got != want {
			t.Errorf("%+v, %v; want %+v", got, ok, want)
		}
	}
}

func TestRuleRoundTrip(t *testing.T) {
	for _, r := range []kstate.Rule{
		{Priority: 24225, Mark: 0x5ea10002, Mask: 0xffffffff, Table: 242250002}, {Is6: true, Priority: 1, Mask: 0xff, Table: 1},
		{Priority: 100, Mark: 1, Mask: 3, Not: true, Goto: 1<<31 - 1}, {Priority: 300},
		{Priority: 24223, Port: 8473, Table: 7},
	} {
		if got, ok := parseRule(body(ruleMessage(unix.RTM_NEWRULE, 0, r))); !ok || got != r {
			t.Errorf("%+v, %v; want %+v", got, ok, r)
		}
	}
}

// Rules of ours have nothing that is not told of one.
func TestStrangeRules(t *testing.T) {
	plain := func() *message { return ruleMessage(unix.RTM_NEWRULE, 0, kstate.Rule{Priority: 1, Table: 7}) }
	head := func(at int, v byte) *message {
		m := plain()
		m.buf[unix.SizeofNlMsghdr+at] = v
		return m
	}
	for name, c := range map[string]struct {
		m  *message
		ok bool
	}{
		"plain": {plain(), true}, "suppresses none": {plain().u32(unix.FRA_SUPPRESS_PREFIXLEN, ^uint32(0)), true},
		"suppresses defaults": {plain().u32(unix.FRA_SUPPRESS_PREFIXLEN, 0), false}, "another's": {plain().u8(unix.FRA_PROTOCOL, 2), false},
		"of a source": {head(2, 24).attr(unix.FRA_SRC, []byte{10, 0, 0, 0}), false}, "by a device": {plain().str(unix.FRA_IIFNAME, "eth0"), false},
		"of a service": {head(3, 8), false}, "a blackhole": {head(7, 6), false}, "of no family": {head(0, 0), false},
	} {
		if _, ok := parseRule(body(c.m)); ok != c.ok {
			t.Errorf("%s: ours: %v", name, ok)
		}
	}
}

// The kernel heeds an MTU for IPv6 packets that it passes on only if it is locked; a lock
// of IPv4's would take the mark off packets that are not to be cut.
func TestRouteMTULock(t *testing.T) {
	for dst, want := range map[string]bool{"10.5.2.0/24": false, "2001:db8:2::/64": true} {
		locked := false
		b := body(routeMessage(newMessage(unix.RTM_NEWROUTE, 0), kstate.Route{Dst: netip.MustParsePrefix(dst), MTU: 1400}, unix.RT_SCOPE_UNIVERSE, 5))
		attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
			if typ == unix.RTA_METRICS {
				attrs(v, func(typ uint16, v []byte) { locked = locked || typ == unix.RTAX_LOCK && u32(v) == 1<<unix.RTAX_MTU })
			}
		})
		if locked != want {
			t.Errorf("%s: locked %v", dst, locked)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for s, want := range map[string][]byte{
		"10.0.0.2/24": {10, 0, 0, 255}, "10.0.5.2/22": {10, 0, 7, 255}, "10.0.0.1/30": {10, 0, 0, 3}, "10.9.9.9/0": {255, 255, 255, 255},
	} {
		if got := broadcast(netip.MustParsePrefix(s)); !bytes.Equal(got, want) {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
}

func TestOwnPorts(t *testing.T) {
	p := newPorts()
	for id, own := range map[uint32]bool{
		p.base: true, p.base | 255: true, p.base + 256: false, p.base - 1: false, 0: false, uint32(unix.Getpid()): false, 1 << 31: false,
	} {
		if p.own(id) != own {
			t.Errorf("%#x: own is %v", id, !own)
		}
	}
}

func TestRefusal(t *testing.T) {
	tlv := newMessage(0, 0).str(unix.NLMSGERR_ATTR_MSG, "no such thing")
	text := tlv.buf[unix.SizeofNlMsghdr:]
	errno := native.AppendUint32(nil, ^uint32(unix.EEXIST)+1)
	request := sealed(newMessage(unix.RTM_NEWLINK, 0).link(0, 1, 0, 0))
	capped := bytes.Join([][]byte{errno, request[:unix.SizeofNlMsghdr], text}, nil)
	whole := bytes.Join([][]byte{errno, request, text}, nil)
	for name, err := range map[string]error{
		"capped": answer(header{typ: unix.NLMSG_ERROR, flags: unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED}, capped),
		"whole":  answer(header{typ: unix.NLMSG_ERROR, flags: unix.NLM_F_ACK_TLVS}, whole),
	} {
		if err == nil || err.Error() != "no such thing (file exists)" || !errors.Is(err, kernel.ErrInUse) || !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := answer(header{typ: unix.NLMSG_ERROR}, make([]byte, 20)); err != nil {
		t.Errorf("success: %v", err)
	}
}

// FuzzMessages feeds the parsers what no kernel sends: they must not panic.
func FuzzMessages(f *testing.F) {
	f.Add(sealed(aDevice()))
	f.Add(sealed(addrMessage(newMessage(unix.RTM_NEWADDR, 0), netip.MustParsePrefix("2001:db8::2/64"), 5)))
	f.Add(sealed(newMessage(unix.RTM_NEWROUTE, 0).route(unix.AF_INET, 24, 2, 0, unix.RTN_UNICAST).
		attr(unix.RTA_MULTIPATH, []byte{16, 0, 0, 0, 5, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, 1})))
	f.Add(sealed(ruleMessage(unix.RTM_NEWRULE, 0, kstate.Rule{Priority: 1, Mark: 1, Mask: 3, Not: true, Goto: 7})))
	f.Add(sealed(aQueue(kstate.Shaper{Rate: 1 << 33, Burst: 1, Queue: 2})))
	f.Add(sealed(aFilter("u32", 5)))
	f.Add(sealed(aTunnel(kstate.VXLAN{VNI: 1, Port: 1, Local: netip.IPv6Loopback()}, 3)))
	f.Add(sealed(aNeigh(unix.AF_BRIDGE, unix.NUD_PERMANENT, unix.NTF_SELF)))
	f.Add([]byte{16, 0, 0, 0, 2, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0})
	c := &Conn{ports: newPorts(), recent: newRecent()}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = messages(b, func(h header, body []byte) error {
			n += unix.SizeofNlMsghdr + len(body)
			c.judge(h, body)
			answer(h, body)
			parseDevice(body)
			parseAddress(body)
			parseRoute(body)
			parseDetour(body)
			parseRule(body)
			parseQueue(body)
			parseFilter(body)
			parseNeigh(body, func(int) bool { return true })
			return nil
		})
		if n > len(b) {
			t.Errorf("%d bytes of messages in %d", n, len(b))
		}
	})
}
