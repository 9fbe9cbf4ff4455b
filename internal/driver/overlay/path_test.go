package overlay

import (
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func TestFits(t *testing.T) {
	four, six, inner := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("fd5e:a1ae:5ea1::2")
	for _, c := range []struct {
		at, to       netip.Addr
		mtu, full    int
		fits4, fits6 int
		inside       int // 0: not encrypted
	}{
		{at: four, to: four, mtu: 1400, full: 1500, fits4: 1350, fits6: 1350},
		{at: four, to: four, mtu: 1300, full: 1500, fits4: 1250, fits6: 1280},
		{at: six, to: six, mtu: 1400, full: 1500, fits4: 1330, fits6: 1330},
		{at: inner, to: four, mtu: 1499, full: 1500, inside: 1408, fits4: 1338, fits6: 1338},
		{at: inner, to: six, mtu: 1440, full: 1500, inside: 1360, fits4: 1290, fits6: 1290},
		{at: inner, to: four, mtu: 1400, full: 1500, inside: 1350, fits4: 1280, fits6: 1280},
		{at: inner, to: four, mtu: 1300, full: 1400, inside: 1320, fits4: 1250, fits6: 1280},
		{at: inner, to: four, mtu: 8999, full: 9000, inside: 8912, fits4: 8842, fits6: 8842},
	} {
		p := model.NarrowPath{At: c.at, To: c.to, MTU: c.mtu, Full: c.full}
		if got4, got6 := Fits(p, false), Fits(p, true); got4 != c.fits4 || got6 != c.fits6 {
			t.Errorf("%+v: %d and %d fit, want %d and %d", p, got4, got6, c.fits4, c.fits6)
		}
		want := kstate.Route{Dst: whole(c.at), Dev: model.CipherDevice, MTU: c.inside}
		if got := (Narrow{c.at: p}).through(c.at); c.inside != 0 && got != want {
			t.Errorf("%+v: %s, want %s", p, got, want)
		}
	}
}

// Of what several networks say of one path the narrowest counts, whatever their order.
func TestNarrower(t *testing.T) {
	at, inner, via := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd5e:a1ae:5ea1::2"), netip.MustParseAddr("198.51.100.1")
	paths := []model.NarrowPath{
		{At: at, To: at, MTU: 1400, Full: 1500, Dev: "eth0", Via: via}, {At: at, To: at, MTU: 1300, Full: 1500, Dev: "eth0", Via: via},
		{At: inner, To: at, MTU: 1350, Full: 1500, Dev: "eth0"}, {At: via, To: via, MTU: 1300, Full: 1500},
	}
	want := kstate.Set{}
	if err := want.Add(kstate.Route{Dst: whole(at), Via: via, Dev: "eth0", Onlink: true, Table: pathTable, MTU: 1300},
		kstate.Rule{Priority: pathPriority, Port: 7, Table: pathTable}, kstate.Rule{Priority: pathPriority, Port: 8, Table: pathTable}); err != nil {
		t.Fatal(err)
	}
	for i := range paths {
		w := Narrow{}
		for j := range paths {
			w.Add(&model.Network{Overlay: &model.Overlay{Narrow: []model.NarrowPath{paths[(i+j)%len(paths)]}}})
		}
		got := kstate.Set{}
		if err := got.Add(w.Paths([]int{7, 8})...); err != nil || got.String() != want.String() {
			t.Errorf("%v\n%s\nwant\n%s", err, got, want)
		}
	}
}
