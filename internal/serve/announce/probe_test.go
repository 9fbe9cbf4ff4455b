package announce

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/serve/wire"
)

// From the host on its bridge and from a container beside the holder: who has an
// address is told, and that nobody has it is known within a second.
func TestProbe(t *testing.T) {
	lan(t)
	x, y := newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	host := Wire{Place: wire.Place{Device: "lan"}}
	box := Wire{Place: wire.Place{NS: y.NS(), Device: "eth0"}, Named: true}
	y.ip("addr add fe80::42:aff:fe00:3/64 dev eth0 nodad") // macB's
	for _, c := range []struct {
		at   Wire
		addr string
		want string
	}{
		{host, "10.0.0.2", macA},
		{host, "fd00::2", macA},
		{host, "10.0.0.77", ""},
		{host, "fd00::77", ""},
		{host, "10.0.0.1", "16:00:00:00:00:01"}, // its own
		{box, "10.0.0.2", macA},
		{box, "10.0.0.1", "16:00:00:00:00:01"},
		{box, "fd00::2", macA},
		{box, "10.0.0.3", ""},
		{box, "fd00::3", ""},
		{box, "fd00::77", ""},
	} {
		began := time.Now()
		holder, err := Probe(t.Context(), c.at, netip.MustParseAddr(c.addr))
		if err != nil || holder.String() != c.want {
			t.Errorf("%+v %s: held by %q, %v; want %q", c.at, c.addr, holder, err, c.want)
		}
		if took := time.Since(began); took > long/2 {
			t.Errorf("%s took %v", c.addr, took)
		}
	}
	_ = x
}

// Of two that probe the same address at the same time one hears of the other.
func TestProbeMeetsAnother(t *testing.T) {
	lan(t)
	y := newBox(t, "y", macB, 3)
	other := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		_, err := Probe(t.Context(), Wire{Place: wire.Place{NS: y.NS(), Device: "eth0"}}, netip.MustParseAddr("10.0.0.50"))
		other <- err
	}()
	holder, err := Probe(t.Context(), Wire{Place: wire.Place{Device: "lan"}}, netip.MustParseAddr("10.0.0.50"))
	if err != nil || holder.String() != macB {
		t.Errorf("the first: held by %q, %v", holder, err)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
}

func TestProbeImpossible(t *testing.T) {
	lan(t)
	a := netip.MustParseAddr("10.0.0.9")
	if _, err := Probe(t.Context(), Wire{Place: wire.Place{Device: "nobody"}}, a); err == nil || !strings.Contains(err.Error(), "device nobody") {
		t.Errorf("no device: %v", err)
	}
	if _, err := Probe(t.Context(), Wire{Place: wire.Place{Device: "lo"}}, a); err == nil || !strings.Contains(err.Error(), "no Ethernet device") {
		t.Errorf("lo: %v", err)
	}
	_, err := Probe(t.Context(), Wire{Place: wire.Place{NS: kstate.NS{Path: "/nowhere"}, Device: "eth0"}}, a)
	if err == nil || !strings.Contains(err.Error(), kernel.ErrNoNamespace.Error()) {
		t.Errorf("no namespace: %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	began := time.Now()
	if _, err := Probe(ctx, Wire{Place: wire.Place{Device: "lan"}}, a); err == nil || time.Since(began) > 400*time.Millisecond {
		t.Errorf("cancelled: %v after %v", err, time.Since(began))
	}
}

// What is on no bridge of ours is announced from inside, with the hardware address
// that it has there, until it is gone.
func TestFromInside(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macC, 2), newBox(t, "y", macB, 3)
	e := y.listen()
	inside := wire.Place{NS: x.NS(), Device: "eth0"}
	if err := a.Announce(Endpoint{Device: "slx", MAC: macA, Addrs: addrs("10.0.0.2", "fd00::2"), Count: 2, Interval: 100 * time.Millisecond, Inside: inside}); err != nil {
		t.Fatal(err)
	}
	got := e.all(soon)
	if len(got) != 4 {
		t.Errorf("%d messages, want 4", len(got))
	}
	for _, h := range got {
		if !strings.Contains(h.frame, strings.ReplaceAll(macC, ":", "")) {
			t.Errorf("heard %s", h.frame)
		}
	}
	inside.NS.Path = "/nowhere"
	if err := a.Announce(Endpoint{Device: "slx", MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1000, Interval: 10 * time.Millisecond, Inside: inside}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(long); a.running() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
}

func FuzzClaim(f *testing.F) {
	mac := []byte{2, 0, 0, 0, 0, 1}
	for _, text := range []string{"10.0.0.9", "fd00::9"} {
		a := netip.MustParseAddr(text)
		f.Add(announcement(mac, a))
		f.Add(probe(mac, a, true))
		f.Add(probe(mac, a, false))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, text := range []string{"10.0.0.9", "fd00::9"} {
			if who, _ := claim(frame, netip.MustParseAddr(text)); who != nil && len(who) != 6 {
				t.Errorf("%x", who)
			}
		}
	})
}
