package kerneltest

import (
	"math/rand/v2"
	"path"

	"github.com/sealane/sealane/internal/kstate"
)

func sandboxName(i int) string { return "sandbox" + itoa(i) }

// Random returns a small host that may be, with run as its run directory: a
// few of everything, each of it in one of a few forms, so that two of them
// differ in all ways there are.
func Random(rng *rand.Rand, run string) kstate.Set {
	r := dice{rng}
	out := kstate.Set{}
	add := func(objs ...kstate.Object) {
		for _, o := range objs {
			out[o.Key()] = o
		}
	}
	var bridges []string
	for i := range 2 {
		if r.chance(70) {
			add(r.bridge(i)...)
			bridges = append(bridges, bridgeName(i))
		}
	}
	if len(bridges) == 2 && r.chance(50) {
		c := cord("slc0", "slc1", bridges[0], bridges[1], 9)
		c.Isolated, c.Peer.Isolated = r.chance(50), r.chance(50)
		add(c)
	}
	for i := range 4 {
		if r.chance(60) {
			add(r.sandbox(kstate.NS{Path: path.Join(run, "netns", sandboxName(i))}, i, bridges)...)
		}
	}
	if r.chance(80) {
		add(r.firewall()...)
	}
	if r.chance(30) {
		add(frames()...)
	}
	if r.chance(50) {
		add(r.fabric(bridges)...)
	}
	if r.chance(50) {
		add(r.mesh()...)
	}
	if r.chance(50) {
		add(r.choices(run)...)
	}
	if r.chance(50) {
		add(kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: itoa(r.IntN(2))})
	}
	if r.chance(50) {
		add(kstate.File{Path: path.Join(run, "sandboxes/a/hosts"), Content: sandboxName(r.IntN(3))})
	}
	return out
}

// choices are two services, and some who choose; not all of those are there.
func (r dice) choices(run string) []kstate.Object {
	four := choice("10.1.0.9:80", "10.1.0.2:80", "10.1.0.3:8080", "10.1.0.3:8080")
	four.Backends, four.Turns = four.Backends[:1+r.IntN(3)], r.chance(50)
	six := choice("[fd00::9]:80", "[fd00::2]:"+itoa(80+r.IntN(2)))
	six.VNI += r.IntN(2)
	a := kstate.NS{Path: path.Join(run, "netns", "choosers")}
	return []kstate.Object{four, six, kstate.NetNS{NS: a}, kstate.Chooser{NS: a, VNI: 4096 + r.IntN(2)}}
}

// dice makes parts of a random host.
type dice struct{ *rand.Rand }

func (r dice) chance(percent int) bool { return r.IntN(100) < percent }

func (r dice) of(choice ...string) string { return choice[r.IntN(len(choice))] }

func bridgeName(i int) string { return "slbr" + itoa(i) }

func (r dice) bridge(i int) []kstate.Object {
	b := bridge(bridgeName(i), byte(i))
	b.MTU, b.Localnet, b.ProxyARP, b.NoARP = 1500-100*r.IntN(2), r.chance(50), r.chance(50), r.chance(30)
	out := []kstate.Object{b, addr(host, b.Name, r.of("192.0.2.1/24", "192.0.2.2/24", "192.0.2.1/25"))}
	if r.chance(50) {
		out = append(out, addr(host, b.Name, r.of("2001:db8::1/64", "2001:db8::1/96", "2001:db8::2/64")))
	}
	if r.chance(50) {
		out = append(out, addr(host, b.Name, "192.0.2.3/24"))
	}
	if r.chance(30) {
		out = append(out, route(host, "203.0.113."+itoa(i)+"/32", r.of("192.0.2.9", "192.0.2.10", ""), b.Name))
	}
	return out
}

// sandbox is a namespace with one device or none, under one of two names.
func (r dice) sandbox(ns kstate.NS, i int, bridges []string) []kstate.Object {
	out := []kstate.Object{kstate.NetNS{NS: ns}}
	if r.chance(20) {
		return out
	}
	v := veth("slv"+itoa(i), ns, r.of("eth0", "eth0", "eth1"), byte(i))
	v.MTU = 1500 - 100*r.IntN(2)
	if len(bridges) > 0 && r.chance(80) {
		v.Master, v.Isolated, v.Hairpin, v.GroupForward = bridges[r.IntN(len(bridges))], r.chance(50), r.chance(50), r.chance(50)
	}
	dev := v.Peer.Name
	out = append(out, r.limits(v.Name, i)...)
	out = append(out, v, addr(ns, dev, r.of("192.0.2.8/24", "192.0.2.9/24", "192.0.2.8/25")))
	if r.chance(70) {
		out = append(out, route(ns, "0.0.0.0/0", r.of("192.0.2.1", "192.0.2.2"), dev))
	}
	if r.chance(60) {
		out = append(out, addr(ns, dev, r.of("2001:db8::8/64", "2001:db8::9/64")))
		if r.chance(60) {
			out = append(out, route(ns, "::/0", "2001:db8::1", dev))
		}
	}
	return out
}

// fabric is a vxlan with some ways to other hosts, of one family or the other, and
// sometimes a port of a bridge that knows some of them too.
func (r dice) fabric(bridges []string) []kstate.Object {
	l := vxlan("slx1", 1+r.IntN(2), r.of("192.0.2.129", "192.0.2.130", "2001:db8:f::1"), "")
	l.MTU, l.VXLAN.NoLearning, l.MAC = 1400+10*r.IntN(2), r.chance(50), hw(0xd, byte(r.IntN(2)))
	if len(bridges) > 0 && r.chance(50) {
		l.Master, l.Known, l.VXLAN.Proxy = bridges[r.IntN(len(bridges))], r.chance(70), r.chance(70)
	}
	out := []kstate.Object{l, addr(host, l.Name, "10.5.1.0/32")}
	for i := range 3 {
		at, dst := "10.5."+itoa(i+2)+".0", "198.51.100."+r.of("2", "3")
		if l.VXLAN.Local.Is6() {
			dst = "2001:db8:f::" + r.of("2", "3")
		}
		way := onlink(at+"/24", at, l.Name)
		way.MTU = 1000 * r.IntN(2)
		if r.chance(30) {
			way = hole(host, at+"/24")
		}
		where := fdb(l.Name, hw(0xf, byte(i)), dst)
		where.Bridged = l.Master != "" && r.chance(70)
		for _, o := range []kstate.Object{way, neigh(host, l.Name, at, hw(0xf, byte(r.IntN(2)))), where, fdb(l.Name, kstate.Everyone, dst)} {
			if r.chance(70) {
				out = append(out, o)
			}
		}
	}
	return out
}

// mesh is a vxlan without an address, and some rules and ways by it.
func (r dice) mesh() []kstate.Object {
	all := mesh()
	out := all[:1:1]
	for _, o := range all[1:] {
		switch v := o.(type) {
		case kstate.Rule:
			if v.Table != 0 && r.chance(20) {
				v.Table, v.Goto = 0, 24300
			}
			o = v
		case kstate.Route:
			if r.chance(20) {
				o = inTable(hole(host, v.Dst.String()), v.Table)
			}
		}
		if r.chance(80) {
			out = append(out, o)
		}
	}
	return out
}

// limits are rates that a device keeps to, either way or both.
func (r dice) limits(dev string, i int) []kstate.Object {
	rate := func(dev string) kstate.Object { return shaper(dev, uint64(1000*(1+r.IntN(2)))) }
	var out []kstate.Object
	if r.chance(30) {
		out = append(out, rate(dev))
	}
	if r.chance(30) {
		d := ifb("sli" + itoa(i))
		out = append(out, d, rate(d.Name), kstate.Redirect{Dev: dev, To: d.Name})
	}
	return out
}

// firewall is the fixed structure in one of a few versions, with some elements.
func (r dice) firewall() []kstate.Object {
	out := firewall()
	if r.chance(40) {
		out = append(out, chain("published", "ip daddr . meta l4proto . th dport @open4 accept", r.of("drop", "return")))
	}
	if r.chance(15) {
		out = append(out, chain("more", "drop"))
	}
	if r.chance(15) {
		out = append(out, kstate.NftSet{Table: table, Name: "more", Type: r.of("inet_service", "ifname")})
	}
	for _, p := range []string{"80", "81", "82"} {
		if r.chance(50) {
			out = append(out, elem(ports4, "tcp . "+p, r.of("192.0.2.8 . 80", "192.0.2.9 . 80")), elem(open4, "192.0.2.8 . tcp . "+p, ""))
		}
	}
	if r.chance(50) {
		out = append(out, elem(ingress, r.of("slbr0", "slbr1"), r.of("drop", "jump to_nat")))
	}
	if r.chance(50) {
		out = append(out, elem(masq4, r.of("192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/25"), ""))
	}
	if r.chance(50) {
		out = append(out, elem(ranges4, "tcp . "+r.of("70-80", "75-85", "81-90"), "192.0.2.8"))
	}
	return out
}
