package kerneltest

import (
	"math"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

func ifb(name string) kstate.Link {
	return kstate.Link{Name: name, Type: kstate.TypeIFB, MTU: 1500, MAC: hw(9, 1), Up: true, NoARP: true}
}

func shaper(dev string, rate uint64) kstate.Shaper {
	return kstate.Shaper{Dev: dev, Rate: rate, Burst: 15000, Queue: 40000}
}

// limited is a veth that keeps to rates both ways.
func limited() []kstate.Object {
	return []kstate.Object{
		ifb("sli1"), veth("slv1", host, "slw1", 1),
		shaper("sli1", 125_000), shaper("slv1", 1_250_000), kstate.Redirect{Dev: "slv1", To: "sli1"},
	}
}

// shaperCases: rates that devices keep to.
var shaperCases = []testcase{
	{"both ways", func(s *suite) { s.comesAndGoes(limited()...) }},
	{"the slowest, the fastest and the deepest", func(s *suite) {
		s.comesAndGoes(ifb("sli1"), ifb("sli2"), ifb("sli3"),
			kstate.Shaper{Dev: "sli1", Rate: 125, Burst: 1518, Queue: 3000},
			kstate.Shaper{Dev: "sli2", Rate: 125_000_000_000_000, Burst: 1 << 20, Queue: math.MaxUint32},
			kstate.Shaper{Dev: "sli3", Rate: math.MaxUint32, Burst: math.MaxUint32, Queue: 1})
	}},
	{"rates change in place", func(s *suite) {
		want := set(limited()...)
		s.reach(want)
		slow := shaper("slv1", 1000)
		slow.Burst++
		s.does(with(want, slow), "~ "+slow.String())
	}},
	{"a redirect changes in place", func(s *suite) {
		want := with(set(limited()...), ifb("sli2"))
		s.reach(want)
		r := kstate.Redirect{Dev: "slv1", To: "sli2"}
		s.does(with(want, r), "~ "+r.String())
	}},
	{"rates go and the device stays", func(s *suite) {
		s.reach(set(limited()...))
		s.reach(set(veth("slv1", host, "slw1", 1)))
		s.reach(set(limited()...))
	}},
	{"devices take them along", func(s *suite) {
		s.reach(set(limited()...))
		ops := s.reach(kstate.Set{})
		if len(ops) != 2 {
			s.Errorf("%d ops, want 2:\n%s", len(ops), lines(ops))
		}
	}},
	{"another process finds them", func(s *suite) {
		s.reach(set(limited()...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(limited()...)
	}},
	{"what somebody deletes is made again", func(s *suite) {
		want := set(limited()...)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.Unshape(s.T, "slv1") }, func() { s.Outside.Unshape(s.T, "sli1") },
			func() { s.Outside.Delete(s.T, "sli1") }, func() { s.Outside.Delete(s.T, "slv1") },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
	}},
	{"a redirect whose device is gone goes too", func(s *suite) {
		s.reach(set(limited()...))
		s.Outside.Delete(s.T, "sli1")
		s.reach(set(veth("slv1", host, "slw1", 1)))
	}},
	{"somebody's queue on a device of ours stays, unless the device has a rate", func(s *suite) {
		v := veth("slv1", host, "slw1", 1)
		s.reach(set(v))
		s.Outside.Shape(s.T, "slv1")
		s.holds(v)
		s.reach(set(v))
		s.del(shaper("slv1", 1000))
		if !s.Outside.Shaped(s.T, "slv1") {
			s.Error("it is gone")
		}
		s.reach(set(v, shaper("slv1", 1000)))
		if s.Outside.Shaped(s.T, "slv1") {
			s.Error("it is still there")
		}
		s.Outside.Shape(s.T, "slv1")
		s.reach(set(v, shaper("slv1", 1000)))
	}},
	{"what cannot be", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.add(ifb("sli1"))
		s.refuses(kernel.ErrMissing, shaper("slv1", 1000))
		s.refuses(kernel.ErrMissing, kstate.Redirect{Dev: "slv1", To: "sli1"})
		s.refuses(kernel.ErrMissing, kstate.Redirect{Dev: "sli1", To: "slv1"})
		s.refuses(kernel.ErrInUse, shaper("br0", 1000))
		s.refuses(kernel.ErrInUse, kstate.Redirect{Dev: "br0", To: "sli1"})
		s.refuses(kernel.ErrInUse, kstate.Redirect{Dev: "sli1", To: "br0"})
		s.refuses(nil, kstate.Shaper{Dev: "sli1", Burst: 15000})
		s.refuses(nil, kstate.Shaper{Dev: "sli1", Rate: 1000})
		s.refuses(kernel.ErrInUse, ifb("br0"))
	}},
	{"hints for what others do to them, not for what we do", func(s *suite) {
		s.add(limited()...)
		time.Sleep(settling)
		hinted := s.watch()
		s.apply(kstate.Op{Old: shaper("slv1", 1_250_000), New: shaper("slv1", 1000)})
		s.del(shaper("sli1", 125_000), kstate.Redirect{Dev: "slv1", To: "sli1"})
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		s.Outside.Unshape(s.T, "slv1")
		if !hinted(3 * time.Second) {
			s.Error("no hint")
		}
	}},
}

// with returns a set with the objects in the place of those with their keys.
func with(s kstate.Set, objs ...kstate.Object) kstate.Set {
	out := kstate.Set{}
	for k, o := range s {
		out[k] = o
	}
	for _, o := range objs {
		out[o.Key()] = o
	}
	return out
}
