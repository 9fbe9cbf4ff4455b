package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests run in a network namespace of their own, which is the host; the
// container and a client elsewhere are two more:
//
//	client 192.0.2.2 ─────── 192.0.2.1 host  172.30.0.1 ─────── 172.30.0.2 container
//	2001:db8:1::2, fe80::2   2001:db8:1::1   2001:db8:2::1     2001:db8:2::2
//
// All of them go with the process.
func TestMain(m *testing.M) { netspace.Main(m) }

func newSpace() netspace.Space {
	s, err := netspace.Open()
	must(err)
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// sh runs a script; a line that begins with an @ runs in the namespace named.
func sh(script string, spaces map[string]netspace.Space) {
	for line := range strings.Lines(strings.TrimSpace(script)) {
		words := strings.Fields(line)
		if name, ok := strings.CutPrefix(words[0], "@"); ok {
			words = append([]string{"nsenter", "--net=" + spaces[name].Path()}, words[1:]...)
		}
		for i, w := range words {
			if name, ok := strings.CutPrefix(w, "netns:"); ok {
				words[i] = spaces[name].Path()
			}
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%s: %v: %s", words, err, out))
		}
	}
}

// world is the three namespaces, made once.
type world struct{ container, client netspace.Space }

var theWorld = sync.OnceValue(func() world {
	w := world{newSpace(), newSpace()}
	sh(`
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
ip link add box type veth peer name eth0 netns netns:container
ip link add lan type veth peer name eth0 netns netns:client
ip addr add 172.30.0.1/24 dev box
ip addr add 2001:db8:2::1/64 dev box nodad
ip addr add 192.0.2.1/24 dev lan
ip addr add 2001:db8:1::1/64 dev lan nodad
ip link set lan addrgenmode none
ip addr add fe80::1/64 dev lan nodad
ip link set box up
ip link set lan up
@container ip link set lo up
@container ip addr add 172.30.0.2/24 dev eth0
@container ip addr add 2001:db8:2::2/64 dev eth0 nodad
@container ip link set eth0 up
@client ip link set lo up
@client ip link set eth0 addrgenmode none
@client ip addr add 192.0.2.2/24 dev eth0
@client ip addr add 2001:db8:1::2/64 dev eth0 nodad
@client ip addr add fe80::2/64 dev eth0 nodad
@client ip link set eth0 up
`, map[string]netspace.Space{"container": w.container, "client": w.client})
	return w
})

// ports is a Resolver: the target by destination port.
type ports struct {
	sync.Mutex
	m map[uint16]string
}

func (p *ports) Target(_ string, _ netip.Addr, dst netip.AddrPort) (netip.AddrPort, bool) {
	p.Lock()
	defer p.Unlock()
	if dst.Addr().Zone() != "" {
		return netip.AddrPort{}, false
	}
	target, ok := p.m[dst.Port()]
	if !ok {
		return netip.AddrPort{}, false
	}
	return netip.MustParseAddrPort(target), true
}

func (p *ports) set(port uint16, target string) {
	p.Lock()
	defer p.Unlock()
	if target == "" {
		delete(p.m, port)
		return
	}
	p.m[port] = target
}

// start starts a proxy, and a firewall that takes ports 1000 to 1999 of the
// host to it.
func start(t *testing.T, m map[uint16]string) (*Proxy, *ports, world) {
	w := theWorld()
	resolve := &ports{m: m}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := Start(context.Background(), resolve, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	take(t, p, "redirect to")
	t.Cleanup(func() {
		p.Close()
		exec.Command("nft", "delete", "table", "inet", "test").Run()
	})
	return p, resolve, w
}

// take replaces the firewall; verb is what takes packets to a port.
func take(t *testing.T, p *Proxy, verb string) {
	rules := exec.Command("nft", "-f", "-")
	rules.Stdin = strings.NewReader(fmt.Sprintf(`
table inet test
delete table inet test
table inet test {
	chain proxy {
		meta nfproto ipv4 meta l4proto { tcp, udp } th dport 1000-1999 %[1]s :%[2]d
		meta nfproto ipv6 meta l4proto { tcp, udp } th dport 1000-1999 %[1]s :%[2]d
	}
	chain prerouting {
		type nat hook prerouting priority -100
		fib daddr type local goto proxy
	}
	chain output {
		type nat hook output priority -100
		fib daddr type local goto proxy
	}
}`, verb, p.Port()))
	if out, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// serveTCP runs serve for each connection to address in the container.
func (w world) serveTCP(t *testing.T, address string, serve func(*net.TCPConn)) {
	t.Helper()
	l, err := netspace.In(w.container, func() (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn))
		}
	}()
}

func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.Close()
}

// serveUDP answers every packet to address in the container with its text,
// behind name. "twice" is answered twice.
func (w world) serveUDP(t *testing.T, address, name string) {
	t.Helper()
	c, err := netspace.In(w.container, func() (net.PacketConn, error) { return net.ListenPacket("udp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(append([]byte(name+":"), buf[:n]...), from)
		}
	}()
}

// dial connects from the host itself, or from the client's namespace.
func dial(from *netspace.Space, network, local, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	switch {
	case local != "" && network == "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local))
	case local != "":
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
	}
	if from == nil {
		return d.Dial(network, address)
	}
	return netspace.In(*from, func() (net.Conn, error) { return d.Dial(network, address) })
}
