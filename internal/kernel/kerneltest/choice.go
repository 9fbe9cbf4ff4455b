package kerneltest

import (
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// choice is a service of the first VNI, by chance.
func choice(at string, backends ...string) kstate.Choice {
	o := kstate.Choice{VNI: 4096, At: netip.MustParseAddrPort(at)}
	for _, b := range backends {
		o.Backends = append(o.Backends, netip.MustParseAddrPort(b))
	}
	return o
}

// choiceCases: services, and whose sockets choose among their backends.
var choiceCases = []testcase{
	{"choices of both families", func(s *suite) {
		turns := choice("10.1.0.10:443", "10.1.0.2:8443")
		turns.Turns, turns.VNI = true, 1<<24-1
		s.comesAndGoes(choice("10.1.0.9:80", "10.1.0.2:80", "10.1.0.3:8080", "10.1.0.2:80"), choice("10.1.0.9:81", "10.1.0.2:81"),
			turns, choice("[fd00::9]:80", "[fd00::2]:80", "[fd00::3]:80"))
	}},
	{"a choice becomes another, in place", func(s *suite) {
		for _, o := range []kstate.Choice{
			choice("10.1.0.9:80", "10.1.0.2:80"), choice("10.1.0.9:80", "10.1.0.2:80", "10.1.0.3:80", "10.1.0.4:80"),
			choice("10.1.0.9:80", "10.1.0.4:80", "10.1.0.2:80"), choice("10.1.0.9:80", "10.1.0.4:8080"),
		} {
			s.reach(set(o))
			o.VNI++
			s.does(set(o), "~ "+o.String())
			o.Turns = true
			s.does(set(o), "~ "+o.String())
		}
	}},
	{"choosers, of several networks", func(s *suite) {
		a, b := s.ns("a"), s.ns("b")
		s.comesAndGoes(kstate.NetNS{NS: a}, kstate.NetNS{NS: b}, kstate.Chooser{NS: a, VNI: 4096}, kstate.Chooser{NS: a, VNI: 4097}, kstate.Chooser{NS: b, VNI: 4096})
	}},
	{"a chooser goes with its namespace, and not to the next one of that name", func(s *suite) {
		a := kstate.NetNS{NS: s.ns("a")}
		s.add(a, kstate.Chooser{NS: a.NS, VNI: 4096})
		s.del(a)
		s.holds()
		s.add(a)
		s.holds(a)
		s.del(kstate.Chooser{NS: a.NS, VNI: 4096})
		s.holds(a)
	}},
	{"choosers in a namespace that was given to us", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		o := kstate.Chooser{NS: ns, VNI: 4096}
		s.add(o)
		s.holds(kstate.NetNS{NS: ns, Other: true}, o)
		s.del(o)
		s.holds(kstate.NetNS{NS: ns, Other: true})
		s.add(o)
		s.Outside.DropNetNS(s.T, ns)
		s.holds()
		s.del(o)
		s.add(o)
		s.holds()
	}},
	{"choices and choosers, seen by a new process, cut at any op", func(s *suite) {
		a := s.ns("a")
		all := []kstate.Object{choice("10.1.0.9:80", "10.1.0.2:80", "10.1.0.3:8080"), choice("[fd00::9]:80", "[fd00::2]:80"), kstate.NetNS{NS: a}, kstate.Chooser{NS: a, VNI: 4096}}
		s.cuts(kstate.Set{}, set(all...))
		s.cuts(set(all...), set(choice("10.1.0.9:80", "10.1.0.3:8080"), kstate.NetNS{NS: a}))
		s.reach(set(all...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(all...)
	}},
	{"what cannot be chosen", func(s *suite) {
		for _, o := range []kstate.Choice{choice("10.1.0.9:80"), choice("10.1.0.9:0", "10.1.0.2:80"), choice("0.0.0.0:80", "10.1.0.2:80"),
			choice("10.1.0.9:80", "[fd00::2]:80"), choice("[fd00::9]:80", "10.1.0.2:80"), choice("[::ffff:10.1.0.9]:80", "10.1.0.2:80"),
			choice("10.1.0.9:80", "10.1.0.2:80", "10.1.0.3:0"), choice("[fe80::9%lo]:80", "[fd00::2]:80")} {
			s.refuses(nil, o)
		}
		for _, vni := range []int{0, -1, 1 << 24} {
			o := choice("10.1.0.9:80", "10.1.0.2:80")
			o.VNI = vni
			s.refuses(nil, o)
		}
		many := choice("10.1.0.9:80", "10.1.0.2:80")
		for len(many.Backends) <= kstate.MaxBackends {
			many.Backends = append(many.Backends, many.Backends...)
		}
		s.refuses(nil, many)
		s.refuses(nil, kstate.Chooser{VNI: 4096})
		s.refuses(nil, kstate.Chooser{NS: s.ns(strings.Repeat("long", 100)), VNI: 4096})
		s.del(choice("10.1.0.9:80", "10.1.0.2:80"))
	}},
}
