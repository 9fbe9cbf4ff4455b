package dhcp

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealane/sealane/internal/model"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, addr(text))
	}
	return out
}

// All that dnsmasq gives in IPv4 is read, it is told who asks, and it gets its
// address back.
func TestDnsmasq4(t *testing.T) {
	w := newWorld(t)
	w.dnsmasq(range4, "--domain=lan.example", "--dhcp-option=option:router,192.0.2.254", "--dhcp-option=option:dns-server,192.0.2.1,192.0.2.3",
		"--dhcp-option=option:mtu,1400", "--dhcp-option=option:classless-static-route,0.0.0.0/0,192.0.2.253,198.51.100.0/24,192.0.2.252")
	c, want := w.newClient(), w.want(false)
	want.Request.Request = addr("192.0.2.55")
	want.Request.VendorClass = "sealane-test"
	began := time.Now()
	c.Want([]Want{want})
	w.await("leased 192.0.2.55/24", 20*time.Second)
	t.Logf("a lease takes %v", time.Since(began))
	l, _ := w.lease(want.Key)
	if d := cmp.Diff(model.Lease{
		Addr: netip.MustParsePrefix("192.0.2.55/24"), Server: addr("192.0.2.1"), Via: serverMAC, Router: addr("192.0.2.253"),
		Routes: []model.Route{{Dst: netip.MustParsePrefix("198.51.100.0/24"), Via: addr("192.0.2.252")}},
		DNS:    addrs("192.0.2.1", "192.0.2.3"), Search: []string{"lan.example"}, MTU: 1400,
	}, l, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(model.Lease{}, "Obtained", "Renew", "Rebind", "Expires")); d != "" {
		t.Error(d)
	}
	if left := l.Expires.Sub(l.Obtained); left != 10*time.Minute || l.Renew.Sub(l.Obtained) >= l.Rebind.Sub(l.Obtained) {
		t.Errorf("ends after %v", left)
	}
	if text := w.leasefile(); !strings.Contains(text, clientMAC+" 192.0.2.55 web 01:"+clientMAC) {
		t.Errorf("dnsmasq knows %q", text)
	}
	want.Request.Lease = &l
	if err := c.Release(want); err != nil {
		t.Fatal(err)
	}
	w.leasesEnd()
}

func (w *world) leasefile() string {
	b, _ := os.ReadFile(filepath.Join(w.path, "leases"))
	return string(b)
}

// leasesEnd waits until the server has none.
func (w *world) leasesEnd() {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); strings.Contains(w.leasefile(), " 192.0.2.") || strings.Contains(w.leasefile(), "2001:db8::"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("dnsmasq still has %q", w.leasefile())
		}
	}
}

func TestDnsmasq6(t *testing.T) {
	w := newWorld(t)
	w.dnsmasq(range6, "--dhcp-option=option6:dns-server,[2001:db8::1]", "--dhcp-option=option6:domain-search,lan.example")
	c, want := w.newClient(), w.want(true)
	c.Want([]Want{want})
	w.await("leased 2001:db8::5", 20*time.Second)
	l, _ := w.lease(want.Key)
	if d := cmp.Diff(model.Lease{
		Addr: l.Addr, Server: addr("fe80::ff:fe00:2"), Via: serverMAC, DNS: addrs("2001:db8::1"), Search: []string{"lan.example"},
	}, l, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(model.Lease{}, "Obtained", "Renew", "Rebind", "Expires", "ServerID")); d != "" {
		t.Error(d)
	}
	if len(l.ServerID) < 3 || l.Expires.Sub(l.Obtained) != 10*time.Minute {
		t.Errorf("%+v", l)
	}
	want.Request.Lease = &l
	if err := c.Release(want); err != nil {
		t.Fatal(err)
	}
	w.leasesEnd()
}

// A client that comes back, as after a restart of the daemon or of the container,
// asks for its address, and goes on with it also when nobody answers.
func TestComeBack(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		w := newWorld(t)
		stop := w.dnsmasq(range4, range6)
		first, want := w.newClient(), w.want(is6)
		first.Want([]Want{want})
		had := w.await("leased", 20*time.Second)
		first.Close()
		l, _ := w.lease(want.Key)
		want.Request.Lease = &l

		second := w.newClient()
		second.Want([]Want{want})
		if is6 { // a confirmation gives nothing
			time.Sleep(300 * time.Millisecond)
		} else if has := w.await("leased", 20*time.Second); has != had {
			t.Errorf("%s, then %s", had, has)
		}
		second.Close()
		stop()
		w.newClient().Want([]Want{want})
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		if len(w.told) > 0 {
			t.Errorf("without a server: %q", w.told)
		}
		w.mu.Unlock()
	}
}

// A server that knows nothing of the address says so, and gives another.
func TestTakenBack(t *testing.T) {
	w := newWorld(t)
	w.dnsmasq("--dhcp-range=192.0.2.70,192.0.2.79,255.255.255.0,10m")
	want := w.want(false)
	now := now()
	want.Request.Lease = &model.Lease{Addr: netip.MustParsePrefix("198.51.100.9/24"), Server: addr("198.51.100.1"), Obtained: now,
		Renew: now.Add(time.Minute), Rebind: now.Add(2 * time.Minute), Expires: now.Add(time.Hour)}
	w.leases[want.Key] = *want.Request.Lease
	w.newClient().Want([]Want{want})
	w.await("lost: server 192.0.2.1: takes 198.51.100.9 back", 20*time.Second)
	w.await("leased 192.0.2.7", 20*time.Second)
}

// An address that somebody uses is declined, and another one asked for.
func TestInUse(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		w := newWorld(t)
		w.dnsmasq(range4, range6)
		want := w.want(is6)
		want.Request.Request = addr(map[bool]string{false: "192.0.2.50", true: "2001:db8::50"}[is6])
		length := map[bool]string{false: "/24", true: "/64"}[is6]
		w.run(w.other, "ip addr add %s%s nodad dev eth0", want.Request.Request, length)
		w.newClient().Want([]Want{want})
		w.await("trouble: address "+want.Request.Request.String()+": used by "+otherMAC, 5*time.Second)
		w.await("leased", 20*time.Second)
		if l, _ := w.lease(want.Key); l.Addr.Addr() == want.Request.Request {
			t.Errorf("leased %s", l.Addr)
		}
	}
}
