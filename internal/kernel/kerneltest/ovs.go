package kerneltest

import (
	"slices"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Switching is Open vSwitch as its owner uses it.
type Switching interface {
	// OpenVSwitch starts or ends the programs: the database's server, and the
	// one that does what the database says. At first neither runs.
	OpenVSwitch(t *testing.T, server, switching bool)
	// OVSBridge makes a bridge that is not ours.
	OVSBridge(t *testing.T, name string)
	// OVSPort sets the VLAN of any port, OVSUnplug takes any port away.
	OVSPort(t *testing.T, device string, vlan int)
	OVSUnplug(t *testing.T, device string)
}

func ovsBridge(name string) kstate.OVSBridge { return kstate.OVSBridge{Name: name, Datapath: "netdev"} }

func ovsPort(bridge, dev string, vlan int) kstate.OVSPort {
	return kstate.OVSPort{Bridge: bridge, Device: dev, Tag: vlan}
}

// switched is a bridge with ports of all kinds.
func switched() []kstate.Object {
	trunk, both, all := ovsPort("ovsbr0", "slv2", 0), ovsPort("ovsbr0", "slv3", 7), ovsPort("ovsbr0", "slv4", 0)
	trunk.Trunks, both.Trunks, all.All = []int{100, 200}, []int{8, 9}, true
	return []kstate.Object{
		veth("slv1", host, "slw1", 1), veth("slv2", host, "slw2", 2), veth("slv3", host, "slw3", 3), veth("slv4", host, "slw4", 4),
		ovsBridge("ovsbr0"), ovsPort("ovsbr0", "slv1", 100), trunk, both, all,
	}
}

// on starts both programs.
func (s *suite) on() { s.Helper(); s.Outside.OpenVSwitch(s.T, true, true) }

// broken checks that of the objects these are there and carry nothing.
func (s *suite) broken(devices ...string) {
	s.Helper()
	got := s.allBroken()
	for end := time.Now().Add(time.Second); !slices.Equal(got, devices) && time.Now().Before(end); got = s.allBroken() {
		time.Sleep(20 * time.Millisecond) // an end is not noticed at once
	}
	if !slices.Equal(got, devices) {
		s.Fatalf("broken are %v, want %v", got, devices)
	}
}

func (s *suite) allBroken() (names []string) {
	s.Helper()
	for _, o := range s.observe().Sorted() {
		switch o := o.(type) {
		case kstate.OVSBridge:
			if o.Broken != "" {
				names = append(names, o.Name)
			}
		case kstate.OVSPort:
			if o.Broken != "" || o.Stale {
				names = append(names, o.Device)
			}
		}
	}
	return names
}

// returns waits until both programs work together again.
func (s *suite) returns() {
	s.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		have := s.observe()
		ok := true
		found := false
		for _, o := range have {
			if b, is := o.(kstate.OVSBridge); is && !b.Other {
				found, ok = true, ok && b.Broken == ""
			}
		}
		if ok && found {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("Open vSwitch does not come back:\n%s", have)
		}
	}
}

// ovsCases: bridges and ports of Open vSwitch.
var ovsCases = []testcase{
	{"comes and goes", func(s *suite) {
		s.on()
		s.comesAndGoes(switched()...)
	}},
	{"VLANs change in place", func(s *suite) {
		s.on()
		want := set(switched()...)
		s.reach(want)
		other := ovsPort("ovsbr0", "slv1", 200)
		s.does(with(want, other), "~ "+other.String())
		other = ovsPort("ovsbr0", "slv4", 0)
		s.does(with(with(want, ovsPort("ovsbr0", "slv1", 200)), other), "~ "+other.String())
	}},
	{"a port goes to another bridge", func(s *suite) {
		s.on()
		want := with(set(switched()...), ovsBridge("ovsbr1"))
		s.reach(want)
		s.reach(with(want, ovsPort("ovsbr1", "slv1", 100)))
	}},
	{"without Open vSwitch there is nothing, and nothing can be", func(s *suite) {
		s.holds()
		s.refuses(kernel.ErrNotRunning, ovsBridge("ovsbr0"))
		s.add(veth("slv1", host, "slw1", 1))
		s.refuses(kernel.ErrNotRunning, ovsPort("ovsbr0", "slv1", 1))
	}},
	{"one that cannot be keeps no other op from being done", func(s *suite) {
		err := s.fails(Adds(ovsBridge("ovsbr0"), veth("slv1", host, "slw1", 1))...)
		if err == nil {
			s.Error("no error")
		}
		s.holds(veth("slv1", host, "slw1", 1))
	}},
	{"what is missing, or somebody else's", func(s *suite) {
		s.on()
		s.Outside.OVSBridge(s.T, "theirs")
		s.Outside.Bridge(s.T, "br0")
		s.refuses(kernel.ErrInUse, ovsBridge("theirs"))
		s.refuses(kernel.ErrInUse, ovsBridge("br0"))
		s.add(veth("slv1", host, "slw1", 1))
		s.refuses(kernel.ErrMissing, ovsPort("ovsbr0", "slv1", 1))
		s.refuses(kernel.ErrMissing, ovsPort("theirs", "slv9", 1))
		s.fails(Dels(ovsBridge("theirs"))...)
		s.del(ovsBridge("ovsbr0"), ovsPort("ovsbr0", "slv1", 1))
	}},
	{"ports on a bridge that is not ours", func(s *suite) {
		s.on()
		s.Outside.OVSBridge(s.T, "theirs")
		want := []kstate.Object{veth("slv1", host, "slw1", 1), ovsPort("theirs", "slv1", 5)}
		s.reach(set(want...))
		s.holds(want...)
		if o, ok := s.observe()[ovsBridge("theirs").Key()]; !ok || !kstate.Foreign(o) {
			s.Error("the bridge is not seen, or is ours")
		}
		s.reach(kstate.Set{})
	}},
	{"what somebody undoes is done again", func(s *suite) {
		s.on()
		want := set(switched()...)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.OVSUnplug(s.T, "slv1") }, func() { s.Outside.OVSPort(s.T, "slv1", 9) }, func() { s.Outside.OVSPort(s.T, "slv4", 9) },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
	}},
	{"a port does not lead to a new device of the old name", func(s *suite) {
		s.on()
		want := set(switched()...)
		s.reach(want)
		s.Outside.Delete(s.T, "slv1")
		s.broken("slv1")
		if ops := s.reach(want); len(ops) != 3 || ops[0].New != nil {
			s.Errorf("done:\n%s", lines(ops))
		}
		s.broken()
	}},
	{"a port whose device is gone goes too", func(s *suite) {
		s.on()
		s.reach(set(switched()...))
		s.Outside.Delete(s.T, "slv1")
		s.reach(set(switched()[1:5]...))
		s.reach(kstate.Set{})
	}},
	{"another process finds it, and removes it", func(s *suite) {
		s.on()
		s.reach(set(switched()...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(switched()...)
		s.reach(kstate.Set{})
	}},
	{"ended and started: it is as it was", func(s *suite) {
		s.on()
		want := set(switched()...)
		s.reach(want)
		s.Outside.OpenVSwitch(s.T, true, false)
		s.broken("ovsbr0", "slv1", "slv2", "slv3", "slv4")
		s.fails(Adds(ovsBridge("ovsbr1"))...)
		s.Outside.OpenVSwitch(s.T, false, false)
		s.holds(switched()[:4]...)
		s.fails(Adds(ovsBridge("ovsbr0"))...)
		s.on()
		s.returns()
		s.reach(want)
		s.holds(switched()...)
	}},
	{"hints: when others change it, and when it ends and is back; not for our own ops", func(s *suite) {
		s.on()
		s.add(switched()...)
		s.holds(switched()...)
		time.Sleep(settling)
		hinted := s.watch()
		s.apply(kstate.Op{Old: ovsPort("ovsbr0", "slv1", 100), New: ovsPort("ovsbr0", "slv1", 5)})
		s.del(ovsPort("ovsbr0", "slv1", 5))
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		for i, act := range []func(){
			func() { s.Outside.OVSPort(s.T, "slv4", 9) }, func() { s.Outside.OVSUnplug(s.T, "slv4") },
			func() { s.Outside.OpenVSwitch(s.T, false, false) }, func() { s.on() },
		} {
			act()
			if !hinted(3 * time.Second) {
				s.Errorf("no hint for act %d", i)
			}
			for hinted(400 * time.Millisecond) {
			}
		}
	}},
}
