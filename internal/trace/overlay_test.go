package trace

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// A forwarding entry is in two tables, of which each may lack it, and may lead to
// another host; what the device does not know it sends to all.
func TestForwardingEntries(t *testing.T) {
	const dev, mac = "slxaaaaaaaaaaaa", "02:42:0a:01:00:03"
	addr := netip.MustParseAddr
	everyone := kstate.FDB{Dev: dev, MAC: kstate.Everyone, Dst: addr("192.0.2.2")}
	for _, c := range []struct {
		name    string
		fdb     kstate.FDB
		gone    kstate.Object
		arrives bool
		said    string
	}{
		{"as wanted", kstate.FDB{Dev: dev, MAC: mac, Dst: addr("192.0.2.2"), Bridged: true}, nil, true, "FDB: " + mac + " is at 192.0.2.2"},
		{"not the bridge's", kstate.FDB{Dev: dev, MAC: mac, Dst: addr("192.0.2.2")}, nil, false, "FDB: knows no port for " + mac},
		{"not the device's", kstate.FDB{Dev: dev, MAC: mac, Bridged: true}, nil, true, "FDB: knows no host for " + mac + ": it goes to all, 192.0.2.2, 192.0.2.3"},
		{"nor to all", kstate.FDB{Dev: dev, MAC: mac, Bridged: true}, everyone, false, "FDB: knows no host for " + mac + ", and what is for all does not go to 192.0.2.2"},
		{"another host", kstate.FDB{Dev: dev, MAC: mac, Dst: addr("192.0.2.3"), Bridged: true}, nil, false, "host 192.0.2.3! is not host b, on which sandbox web is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := overlayWorld(t)
			w.Have[c.fdb.Key()] = c.fdb
			if c.gone != nil {
				delete(w.Have, c.gone.Key())
			}
			a, err := Explain(w, Question{From: named(w, "api"), Addr: addr("10.1.0.3")})
			text := print("there", a.There)
			if err != nil || a.There.Arrives != c.arrives || !strings.Contains(text, c.said) {
				t.Errorf("%v\n%s", err, text)
			}
			if missed := strings.Contains(text, "missing: fdb "+mac); missed == (c.name == "as wanted") {
				t.Errorf("missing: %v\n%s", missed, text)
			}
		})
	}
}

// The device to the other hosts is looked at before what it knows.
func TestTrunk(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*kstate.Link)
		arrives bool
		said    string
	}{
		{"down", func(l *kstate.Link) { l.Up = false }, false, "! is down"},
		{"no port", func(l *kstate.Link) { l.Master = "" }, false, "! is a port of no bridge, and to be one of slbaaaaaaaaaaaa"},
		{"another VNI", func(l *kstate.Link) { l.VXLAN.VNI = 5 }, true, "! is to be: link slxaaaaaaaaaaaa type vxlan vni 4097"},
		{"too large", func(l *kstate.Link) { l.MTU = 1500 }, true, "! its MTU is 1500, and only 1450 bytes fit through eth0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := overlayWorld(t)
			key := kstate.Link{Name: "slxaaaaaaaaaaaa"}.Key()
			l := w.Have[key].(kstate.Link)
			c.change(&l)
			w.Have[key] = l
			a, err := Explain(w, Question{From: named(w, "api"), ToMates: mates(w, "web")})
			text := print("there", a.There)
			if err != nil || a.There.Arrives != c.arrives || !strings.Contains(text, c.said) {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

// A frame may be for a router on another host.
func TestRouterElsewhere(t *testing.T) {
	w := overlayWorld(t)
	for k, o := range w.Have {
		if r, ok := o.(kstate.Route); ok && r.Via == netip.MustParseAddr("10.1.0.1") {
			r.Via = netip.MustParseAddr("10.1.0.3")
			w.Have[k] = r
		}
	}
	a, err := Explain(w, Question{From: named(w, "api"), Addr: netip.MustParseAddr("203.0.113.7")})
	if text := print("there", a.There); err != nil || !a.There.Arrives || a.Back != nil || !strings.Contains(text, "sandbox web is the router to 203.0.113.7") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestNearestMate(t *testing.T) {
	w := overlayWorld(t)
	both := []*model.Far{mates(w, "lone")[0], mates(w, "web")[0]}
	for _, c := range []struct{ from, want string }{{"api", "10.1.0.3"}, {"coy", "10.2.0.3"}, {"", "10.2.0.3"}} {
		if got := nearestMate(w.Intent, named(w, c.from), both); got.String() != c.want {
			t.Errorf("from %q: %s, want %s", c.from, got, c.want)
		}
	}
}

func overlayWorld(t *testing.T) World {
	t.Helper()
	return worldOf(t, "overlay")
}

// worldOf is the world of a golden.
func worldOf(t *testing.T, name string) World {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	return parseWorld(t, txtar.Parse(b).Files[0].Data)
}

// Packets to a host behind a narrow path have a route of their own, which says what fits.
func TestNarrowPath(t *testing.T) {
	b := netip.MustParseAddr("192.0.2.2")
	way := kstate.Route{Dst: netip.PrefixFrom(b, 32), Dev: "eth0", Table: 7, MTU: 1400}
	ask := kstate.Rule{Priority: 1, Port: 8473, Table: 7}
	for _, c := range []struct {
		name string
		have []kstate.Object
		want string
		fits int
	}{
		{"whole", []kstate.Object{way, ask}, "eth0 (mtu 1400): 192.0.2.1 -> 192.0.2.2 UDP 8473, VNI 4097: the path there is narrower", 1350},
		{"no route", []kstate.Object{ask}, "! missing: " + way.String(), 1450},
		{"no rule", []kstate.Object{way}, "! missing: " + ask.String(), 1450},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := overlayWorld(t)
			w.Want[way.Key()], w.Want[ask.Key()] = way, ask
			for _, o := range c.have {
				w.Have[o.Key()] = o
			}
			a, err := Explain(w, Question{From: named(w, "api"), ToMates: mates(w, "web")})
			if text := print("there", a.There); err != nil || a.There.MTU != c.fits || !strings.Contains(text, c.want) {
				t.Errorf("%v, %d\n%s", err, a.There.MTU, text)
			}
		})
	}
}
