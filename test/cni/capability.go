package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

func capabilityChecks() []check {
	declared := func(name string, run func(*trial) error) func(*trial) error {
		return func(t *trial) error {
			if t.capabilities[name] != true {
				return inapplicable("its configuration does not declare it")
			}
			return run(t)
		}
	}
	row := func(id, name, says string, run func(*trial) error) check {
		return check{"capability." + id, "CONVENTIONS", "convention", "`" + name + "`: " + says, "", declared(name, run)}
	}
	return []check{
		row("ports", "portMappings", "a TCP and a UDP port of the host lead to ports of the container, until DEL", capabilityPorts),
		row("ports-freed", "portMappings", "after DEL another container gets the port", capabilityPortsFreed),
		row("ips", "ips", "the address asked for is the one given", func(t *trial) error { return t.asked(runtimeIPs) }),
		row("ips-taken", "ips", "an address that another container has is refused", capabilityTaken),
		row("mac", "mac", "the interface has the MAC asked for, and the result says so", capabilityMAC),
		row("bandwidth", "bandwidth", "8 Mbit/s to or from the container are 8 Mbit/s", capabilityBandwidth),
		row("dns", "dns", "servers, searches and options are in the result", capabilityDNS),
		row("aliases", "aliases", "the nameserver in the result of another container knows each name of the list", capabilityAliases),
	}
}

// capability sets a key of runtimeConfig.
func capability(name string, value any) option {
	return key("runtimeConfig", map[string]any{name: value})
}

// nth is an address of the network.
func (n *network) nth(i byte) netip.Addr {
	b := n.subnet.Addr().As4()
	b[3] += i
	return netip.AddrFrom4(b)
}

// An asker asks for an address in one of the ways that there are.
type asker func(netip.Prefix) option

func runtimeIPs(p netip.Prefix) option { return capability("ips", []string{p.String()}) }

// asked says whether a container gets the address that it asks for.
func (t *trial) asked(ask asker) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	want := netip.PrefixFrom(n.nth(77), 24)
	if !t.has("SUBNET") {
		return inapplicable("its configuration has no $SUBNET: the addresses of a network are not known")
	}
	a, err := t.another(n, ask(want))
	if err != nil {
		return err
	}
	if got := a.result.address(); got != want {
		return seen("asked for %v, got %v", want, got)
	}
	return a.asReported()
}

func capabilityTaken(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	b := t.attach(a.n, c, "eth0", runtimeIPs(a.result.address()))
	return b.try().refused(nil)
}

func capabilityMAC(t *trial) error {
	const mac = "02:00:5e:10:00:03"
	a, err := t.fresh(capability("mac", mac))
	if err != nil {
		return err
	}
	l, err := a.link()
	if err != nil {
		return err
	}
	if l.mac != mac {
		return seen("the interface has another one")
	}
	return a.asReported()
}

func capabilityDNS(t *trial) error {
	a, err := t.fresh(capability("dns", map[string]any{"servers": []string{"192.0.2.54"}, "searches": []string{"example.net"}, "options": []string{"ndots:3"}}))
	if err != nil {
		return err
	}
	got := a.result.DNS
	if !contains(got.Nameservers, []string{"192.0.2.54"}) || !contains(got.Search, []string{"example.net"}) || !contains(got.Options, []string{"ndots:3"}) {
		text, _ := json.Marshal(got)
		return seen("dns %s", text)
	}
	return nil
}

func capabilityAliases(t *trial) error {
	a, err := t.fresh(capability("aliases", []string{"primary-db", "db-0"}))
	if err != nil {
		return err
	}
	b, err := t.another(a.n)
	if err != nil {
		return err
	}
	if len(b.result.DNS.Nameservers) == 0 {
		return seen("no nameserver in the result of another container")
	}
	for _, name := range []string{"primary-db.", "db-0."} {
		var answers []string
		for _, server := range b.result.DNS.Nameservers {
			answers = append(answers, b.c.lookup(server, name)...)
		}
		if !contains(answers, []string{a.result.address().Addr().String()}) {
			return seen("%s: nameservers %v say %v", name, b.result.DNS.Nameservers, answers)
		}
	}
	return nil
}

// lookup asks a server for the IPv4 addresses of a name.
func (s *space) lookup(server, name string) []string {
	var out []string
	_ = s.do(func() error { // who does not answer has no addresses
		q := new(miekg.Msg).SetQuestion(name, miekg.TypeA)
		r, _, err := (&miekg.Client{Timeout: 10 * time.Second}).Exchange(q, net.JoinHostPort(server, "53"))
		if err != nil {
			return err
		}
		for _, rr := range r.Answer {
			if a, ok := rr.(*miekg.A); ok {
				out = append(out, a.A.String())
			}
		}
		return nil
	})
	return out
}

// outside makes a machine that sees the host at 198.51.100.1.
func (t *trial) outside() (*space, error) {
	s, err := t.container()
	if err != nil {
		return nil, err
	}
	err = s.handle(func(in *netlink.Handle) error {
		peer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "lan1"}
		if err := in.LinkAdd(peer); err != nil {
			return err
		}
		far, err := in.LinkByName("lan1")
		if err != nil {
			return err
		}
		host, err := hostNamespace()
		if err != nil {
			return err
		}
		defer host.Close()
		if err := in.LinkSetNsFd(far, int(host)); err != nil {
			return err
		}
		return address(in, "lan0", "198.51.100.2/24")
	})
	if err != nil {
		return nil, err
	}
	return s, (*space)(nil).handle(func(h *netlink.Handle) error { return address(h, "lan1", "198.51.100.1/24") })
}

// address gives a link an address and sets it up.
func address(h *netlink.Handle, name, cidr string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// mapping publishes 8080 of the host as 80 of the container.
func mapping() option {
	return capability("portMappings", []any{
		map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
		map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
	})
}

const published = "198.51.100.1:8080"

func capabilityPorts(t *trial) error {
	client, err := t.outside()
	if err != nil {
		return err
	}
	a, err := t.fresh(mapping())
	if err != nil {
		return err
	}
	l, err := a.c.listen(80)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := a.c.listenUDP(80)
	if err != nil {
		return err
	}
	defer p.Close()
	if c, err := client.dial(published); err != nil {
		return seen("TCP: %v", err)
	} else {
		c.Close()
	}
	if err := client.sayUDP(published, p); err != nil {
		return seen("UDP: %v", err)
	}
	if err := a.del(); err != nil {
		return err
	}
	if c, err := client.dial(published); err == nil {
		c.Close()
		return seen("after DEL it is still open")
	}
	return nil
}

// listenUDP returns a UDP socket of the namespace.
func (s *space) listenUDP(port int) (net.PacketConn, error) {
	var c net.PacketConn
	err := s.do(func() (err error) {
		c, err = net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	return c, err
}

// sayUDP sends from the namespace until the server hears it.
func (s *space) sayUDP(to string, server net.PacketConn) error {
	var c net.Conn
	err := s.do(func() (err error) {
		c, err = net.Dial("udp4", to)
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	heard := errors.New("nothing was heard")
	for range 5 {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		if err := server.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, _, heard = server.ReadFrom(make([]byte, 16)); heard == nil {
			return nil
		}
	}
	return heard
}

func capabilityPortsFreed(t *trial) error {
	client, err := t.outside()
	if err != nil {
		return err
	}
	a, err := t.fresh(mapping())
	if err == nil {
		err = a.del()
	}
	if err != nil {
		return err
	}
	b, err := t.another(a.n, mapping())
	if err != nil {
		return err
	}
	l, err := b.c.listen(80)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := client.dial(published)
	if err != nil {
		return seen("%v", err)
	}
	return c.Close()
}

// The limit, and the time that 16 Mbit take with it. A burst of 1 Mbit may go
// at once.
const (
	rate, burst  = 8_000_000, 1_000_000
	sent         = 2_000_000 // bytes
	least, worst = 1500 * time.Millisecond, 10 * time.Second
)

func capabilityBandwidth(t *trial) error {
	a, err := t.fresh(capability("bandwidth", map[string]any{"ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst}))
	if err != nil {
		return err
	}
	b, err := t.another(a.n)
	if err != nil {
		return err
	}
	var wrong []string
	for what, way := range map[string][2]*attachment{"to": {b, a}, "from": {a, b}} {
		took, err := carry(way[0], way[1])
		if err != nil {
			return err
		}
		if took < least || took > worst {
			wrong = append(wrong, fmt.Sprintf("%s the container: not in %v to %v", what, least, worst))
		}
	}
	if wrong != nil {
		return seen("%s", strings.Join(wrong, ", "))
	}
	return nil
}

// carry says how long it takes to send so many bytes over TCP.
func carry(from, to *attachment) (time.Duration, error) {
	l, err := to.c.listen(5001)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	c, err := from.c.dial(fmt.Sprintf("%v:5001", to.result.address().Addr()))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	start := time.Now()
	go c.Write(make([]byte, sent))
	_, err = io.CopyN(io.Discard, s, sent)
	return time.Since(start), err
}
