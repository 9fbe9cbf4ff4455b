package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/netspace"
)

func webZone() *Zone {
	z := NewZone("front", prefixes("192.0.2.0/24", "2001:db8::/64"))
	z.Update([]Host{{ID: "1", Names: []string{"web", "0123456789ab"}, Addrs: addrs("192.0.2.2", "2001:db8::2"), Ports: []Port{{Proto: "tcp", Number: 8080}}}})
	return z
}

func TestSandbox(t *testing.T) {
	up := serve(t, "127.0.0.1:0", nil, says(dns.RcodeSuccess, "%s 60 IN A 198.51.100.1"))
	r, s := start(t, up.addr), newSpace(t, "up")
	zone := webZone()
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{zone}})
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"web", dns.TypeA, "NOERROR 192.0.2.2"},
		{"WEB.Front", dns.TypeAAAA, "NOERROR 2001:db8::2"},
		{"2.2.0.192.in-addr.arpa", dns.TypePTR, "NOERROR web.front."},
		{"_8080._tcp.web", dns.TypeSRV, "NOERROR 0 0 8080 web.front."},
		{"nobody", dns.TypeA, "NXDOMAIN"},
		{"example.org", dns.TypeA, "NOERROR 198.51.100.1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply, err := s.exchange(network, new(dns.Msg).SetQuestion(dns.Fqdn(c.name), c.typ))
			if err != nil || line(reply) != c.want {
				t.Errorf("%s: %s %s: %v %v, want %s", network, c.name, dns.TypeToString[c.typ], reply, err, c.want)
			}
		}
	}
	zone.Update([]Host{{ID: "2", Names: []string{"db"}, Addrs: addrs("192.0.2.3")}}, "1")
	if got := s.ask(t, "db", dns.TypeA) + s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.3NXDOMAIN" {
		t.Error(got)
	}
}

// TestPortStaysFree has the sandbox run a name server of its own on all
// addresses: at other addresses it is reached, at ours it is not.
func TestPortStaysFree(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	serve(t, "0.0.0.0:53", &s, says(dns.RcodeSuccess, "%s 60 IN A 203.0.113.1"))
	if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Error(got)
	}
	for _, network := range []string{"udp", "tcp"} {
		reply, err := netspace.In(s.Space, func() (*dns.Msg, error) {
			c := dns.Client{Net: network}
			m, _, err := c.Exchange(new(dns.Msg).SetQuestion("web.", dns.TypeA), "127.0.0.1:53")
			return m, err
		})
		if err != nil || line(reply) != "NOERROR 203.0.113.1" {
			t.Errorf("%s: %v %v", network, reply, err)
		}
	}
}

// TestNothingTracked sees that the rules bring no connection tracking along.
func TestNothingTracked(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	s.ask(t, "web", dns.TypeA)
	got := s.shell("cat /proc/thread-self/net/stat/nf_conntrack")
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for _, l := range lines[1:] {
		if entries := strings.Fields(l)[0]; strings.Trim(entries, "0") != "" {
			t.Errorf("tracked: %s", got)
		}
	}
}

// TestOwnFirewall has the sandbox track connections and refuse what is new or
// invalid, but for questions to port 53.
func TestOwnFirewall(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	_, err := netspace.In(s.Space, func() (string, error) {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(`table ip mine {
	chain out { type filter hook output priority 0; policy drop;
		ct state established accept
		ip daddr 127.0.0.11 meta l4proto { tcp, udp } th dport 53 accept
	}
	chain nat { type nat hook output priority -100; }
}`)
		out, err := cmd.CombinedOutput()
		return string(out), err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		reply, err := s.exchange(network, new(dns.Msg).SetQuestion("web.", dns.TypeA))
		if err != nil || line(reply) != "NOERROR 192.0.2.2" {
			t.Errorf("%s: %v %v", network, reply, err)
		}
	}
}

func TestServersOfTheSandbox(t *testing.T) {
	host := serve(t, "127.0.0.1:0", nil, says(dns.RcodeSuccess, "%s 60 IN A 198.51.100.1"))
	r, s, other := start(t, host.addr), newSpace(t, "up"), newSpace(t, "up")
	inside := serve(t, "127.0.0.5:5353", &s, says(dns.RcodeSuccess, "%s 60 IN A 203.0.113.1"))
	us := netip.MustParseAddrPort("127.0.0.11:53")
	v := View{NS: s.NS(), Servers: []netip.AddrPort{us, inside.addr}}
	for _, c := range []struct {
		what     string
		servers  []netip.AddrPort
		internal bool
		want     string
	}{
		{"own", v.Servers, false, "NOERROR 203.0.113.1"},
		{"own, internal", v.Servers, true, "NOERROR 203.0.113.1"},
		{"host's", nil, false, "NOERROR 198.51.100.1"},
		{"internal", nil, true, "NXDOMAIN"},
		{"only us", []netip.AddrPort{us}, false, "NOERROR 198.51.100.1"},
		{"only us, internal", []netip.AddrPort{us}, true, "NXDOMAIN"},
	} {
		v.Servers, v.Internal = c.servers, c.internal
		put(t, r, "a", v)
		if got := s.ask(t, "example.org", dns.TypeA); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	put(t, r, "b", View{NS: other.NS(), Servers: []netip.AddrPort{inside.addr}})
	if got := other.ask(t, "example.org", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("server of another sandbox: %s", got)
	}
}

func TestSetServers(t *testing.T) {
	first := serve(t, "127.0.0.1:0", nil, says(dns.RcodeSuccess, "%s 60 IN A 198.51.100.1"))
	second := serve(t, "127.0.0.1:0", nil, says(dns.RcodeSuccess, "%s 60 IN A 198.51.100.2"))
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS()})
	for _, c := range []struct {
		servers []netip.AddrPort
		want    string
	}{
		{nil, "SERVFAIL"},
		{[]netip.AddrPort{first.addr}, "NOERROR 198.51.100.1"},
		{[]netip.AddrPort{second.addr}, "NOERROR 198.51.100.2"},
	} {
		r.SetServers(c.servers)
		if got := s.ask(t, "example.org", dns.TypeA); got != c.want {
			t.Errorf("%v: %s, want %s", c.servers, got, c.want)
		}
	}
}

// TestRestart leaves everything as a killed daemon does and starts another.
func TestRestart(t *testing.T) {
	s := newSpace(t, "up")
	v := View{NS: s.NS(), Zones: []*Zone{webZone()}}
	for range 3 {
		r := start(t)
		put(t, r, "a", v)
		if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
			t.Error(got)
		}
		if rules := s.shell("nft list ruleset"); strings.Count(rules, "dport set") != 2 {
			t.Error(rules)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRepair(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	for _, damage := range []string{"nft flush ruleset", "nft flush table ip sealane-dns", "true"} {
		s.shell(damage)
		if err := r.Repair(); err != nil {
			t.Error(err)
		}
		if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
			t.Errorf("%s: %s", damage, got)
		}
	}
}

func TestMend(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	if _, err := r.Mend("a"); err == nil {
		t.Error("nobody is served, and nothing is wrong")
	}
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	for damage, want := range map[string]bool{
		"true": false, "nft flush ruleset": true, "nft flush table ip sealane-dns": true, "nft flush chain ip sealane-dns answers": true,
		"nft add rule ip sealane-dns questions drop": true, "nft insert rule ip sealane-dns answers drop": true,
	} {
		s.shell(damage)
		if missing, err := r.Mend("a"); err != nil || missing != want {
			t.Errorf("%s: missing %v, %v", damage, missing, err)
		}
		if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
			t.Errorf("%s: %s", damage, got)
		}
	}
}

func TestRemove(t *testing.T) {
	r, a, b := start(t), newSpace(t, "up"), newSpace(t, "up")
	views := map[string]View{"a": {NS: a.NS()}, "b": {NS: b.NS()}}
	if err := r.Set(views); err != nil {
		t.Fatal(err)
	}
	conn, err := netspace.In(a.Space, func() (net.Conn, error) { return net.Dial("tcp", "127.0.0.11:53") })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	delete(views, "a")
	if err := r.Set(views); err != nil {
		t.Fatal(err)
	}
	if rules := a.shell("nft list ruleset"); rules != "" {
		t.Error(rules)
	}
	if sockets := a.shell("ss -Hltun"); sockets != "" {
		t.Error(sockets)
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, exec.ErrWaitDelay) {
		t.Error("a connection is left")
	}
	if got := b.ask(t, "web", dns.TypeA); got != "NXDOMAIN" {
		t.Error(got)
	}
	if err := errors.Join(r.Remove("a"), r.Remove("nobody")); err != nil {
		t.Error(err)
	}
}

// TestLoopbackComesUpLater begins before the sandbox has an address at all.
func TestLoopbackComesUpLater(t *testing.T) {
	r, s := start(t), newSpace(t, "down")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	s.shell("ip link set lo up")
	if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Error(got)
	}
}

func TestOtherNamespace(t *testing.T) {
	r, a, b := start(t), newSpace(t, "up"), newSpace(t, "up")
	v := View{NS: a.NS(), Zones: []*Zone{webZone()}}
	put(t, r, "x", v)
	v.NS = b.NS()
	put(t, r, "x", v)
	if got := b.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Error(got)
	}
	if rules := a.shell("nft list ruleset"); rules != "" {
		t.Error(rules)
	}
	for _, ns := range []kstate.NS{{Path: "/nowhere"}, {Path: a.NS().Path, Inode: 1}} {
		if err := r.Put("y", View{NS: ns}); !errors.Is(err, kernel.ErrNoNamespace) {
			t.Errorf("%s: %v", ns, err)
		}
	}
}

// TestServerByLink asks a link-local server, whose link has another number in
// each sandbox.
func TestServerByLink(t *testing.T) {
	r := start(t)
	for i, before := range []int{0, 3} {
		s, key := newSpace(t, "up"), string(rune('a'+i))
		for n := range before {
			s.shell(fmt.Sprintf("ip link add d%d type veth peer name p%d", n, n))
		}
		for _, l := range []string{
			"ip link add eth0 type veth peer name peer0", "ip link set peer0 up", "ip link set eth0 addrgenmode none", "ip link set eth0 up",
			"ip addr add fe80::53/64 dev eth0 nodad",
		} {
			s.shell(l)
		}
		answer := fmt.Sprintf("192.0.2.%d", i)
		inside := serve(t, "[::]:0", &s, says(dns.RcodeSuccess, "%s 60 IN A "+answer))
		put(t, r, key, View{NS: s.NS(), Servers: []netip.AddrPort{
			netip.AddrPortFrom(netip.MustParseAddr("fe80::53%eth0"), inside.addr.Port()),
		}})
		if got := s.ask(t, "example.org", dns.TypeA); got != "NOERROR "+answer {
			t.Error(got)
		}
	}
}

// TestChurn puts and removes the same sandbox from many goroutines.
func TestChurn(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	v := View{NS: s.NS(), Zones: []*Zone{webZone()}}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 10 {
				if i%2 == 0 {
					if err := r.Put("a", v); err != nil {
						t.Error(err)
					}
				} else if err := r.Remove("a"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	put(t, r, "a", v)
	if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Error(got)
	}
	if err := r.Remove("a"); err != nil {
		t.Error(err)
	}
	if left := s.shell("nft list ruleset") + s.shell("ss -Hltun"); left != "" {
		t.Error(left)
	}
}
