package dhcp

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/serve/wire"
)

// dhcpd is ISC's server, of either family, whose leases may be as short as a test.
func (w *world) dhcpd(is6 bool, config string) (stop func()) {
	w.t.Helper()
	conf, leases := filepath.Join(w.path, "dhcpd.conf"), filepath.Join(w.path, "dhcpd.leases")
	for path, text := range map[string]string{conf: config, leases: ""} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	family := map[bool]string{false: "-4", true: "-6"}[is6]
	stop = w.start(w.server, "dhcpd", family, "-f", "-d", "--no-pid", "-user", "root", "-group", "root", "-cf", conf, "-lf", leases, "eth0")
	return stop
}

const (
	conf4 = "authoritative; ping-check false; default-lease-time 4; max-lease-time 4; subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.80 192.0.2.89; option routers 192.0.2.1; }"
	conf6 = "authoritative; default-lease-time 8; preferred-lifetime 6; option dhcp-renewal-time 2; option dhcp-rebinding-time 4; option dhcp6.name-servers 2001:db8::1; subnet6 2001:db8::/64 { range6 2001:db8::80 2001:db8::89; }"
)

// A lease is renewed as long as its server is there, then by any other server, and
// in the end it is lost.
func TestRenewal(t *testing.T) {
	for _, c := range []struct {
		is6    bool
		config string
		addr   string
	}{{false, conf4, "192.0.2.8"}, {true, conf6, "2001:db8::8"}} {
		w := newWorld(t)
		stop := w.dhcpd(c.is6, c.config)
		client, want := w.newClient(), w.want(c.is6)
		client.Want([]Want{want})
		first := w.await("leased "+c.addr, 10*time.Second)
		got, _ := w.lease(want.Key)
		for range 2 {
			if again := w.await("leased", 6*time.Second); again != first {
				t.Errorf("%s, then %s", first, again)
			}
		}
		if renewed, _ := w.lease(want.Key); !renewed.Obtained.After(got.Obtained) {
			t.Error("it is not newer")
		}
		w.run(w.client, "ip addr show dev eth0")
		stop()
		text := w.await("lost: the lease of "+c.addr, 12*time.Second)
		if !strings.Contains(text, "ended at") {
			t.Error(text)
		}
		stop = w.dhcpd(c.is6, c.config)
		w.await("leased "+c.addr, 20*time.Second)
		// Given back before the interface goes.
		l, _ := w.lease(want.Key)
		want.Request.Lease = &l
		if err := client.Release(want); err != nil {
			t.Fatal(err)
		}
		w.run(w.client, "ip link del eth0")
		w.logged("dhcpd", map[bool]string{false: "DHCPRELEASE of " + c.addr, true: "Release message from fe80::ff:fe00:1"}[c.is6])
		stop()
	}
}

// logged waits for a line in a program's log.
func (w *world) logged(program, text string) {
	w.t.Helper()
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(w.path, program+".log"))
		if strings.Contains(string(b), text) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s did not say %q:\n%s", program, text, b)
		}
	}
}

// A program of the container's own that has the client's port is not in the way,
// nor are we in its.
func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	w.dhcpd(false, conf4)
	want := w.want(false)
	var theirs net.PacketConn
	if err := (wire.Place{NS: want.NS}).Do(func() (err error) {
		theirs, err = net.ListenPacket("udp4", ":68")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	s, err := open(t.Context(), want, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if s.udp >= 0 {
		t.Error("the port can be had twice: this tests nothing")
	}
	s.close()
	client := w.newClient()
	client.Want([]Want{want})
	w.await("leased", 10*time.Second)
	w.await("leased", 6*time.Second)
	w.logged("dhcpd", "DHCPREQUEST for 192.0.2.80 from "+clientMAC)
}
