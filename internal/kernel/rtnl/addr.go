package rtnl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// entry is the journal's key of an address on somebody else's device. Its
// value is empty: before, the address was not there.
func entry(a kstate.Addr) string {
	in := ""
	if !a.NS.IsHost() {
		in = a.NS.Path + " "
	}
	return "addr/" + in + a.Dev + "/" + a.Prefix.String()
}

// home is the namespace and the device that an address is for.
func (p *pass) home(a kstate.Addr) (*space, device, error) {
	s, err := p.space(a.NS)
	if err != nil {
		return nil, device{}, err
	}
	d, err := s.device(a.Dev)
	return s, d, err
}

// addAddr queues a new address.
func (p *pass) addAddr(op int, a kstate.Addr) error {
	s, d, err := p.home(a)
	if err != nil {
		return err
	}
	mine, err := p.mine(s, d)
	if err != nil {
		return err
	}
	if !mine {
		if err := p.note(op, entry(a)); err != nil {
			return err
		}
	} else if a.Prefix.Addr().Is6() {
		if err := p.wake(s, a.Dev); err != nil {
			return err
		}
	}
	m := addrMessage(newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL), a.Prefix, d.index)
	if !a.NS.IsHost() {
		m.u8(ifaProto, protocol) // our mark; kernels before 5.18 do not keep it
	}
	s.add(op, m)
	return nil
}

// joinAddr queues the route to an address's prefix as the kernel makes it, and would
// remove it with the address (fib_add_ifaddr in net/ipv4/fib_frontend.c,
// addrconf_prefix_route in net/ipv6/addrconf.c).
func (p *pass) joinAddr(op int, a kstate.Addr) error {
	s, d, err := p.home(a)
	if err != nil {
		return err
	}
	to := a.Prefix.Masked()
	m := newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	if to.Addr().Is4() {
		m.route(unix.AF_INET, uint8(to.Bits()), unix.RTPROT_KERNEL, unix.RT_SCOPE_LINK, unix.RTN_UNICAST).attr(unix.RTA_PREFSRC, a.Prefix.Addr().AsSlice())
	} else {
		m.route(unix.AF_INET6, uint8(to.Bits()), unix.RTPROT_KERNEL, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST).u32(unix.RTA_PRIORITY, prefixMetric)
	}
	s.add(op, m.attr(unix.RTA_DST, to.Addr().AsSlice()).u32(unix.RTA_OIF, uint32(d.index)))
	return nil
}

// prefixMetric is what the kernel gives an IPv6 prefix's route (IP6_RT_PRIO_ADDRCONF).
const prefixMetric = 256

// removeAddr queues the end of an address of ours.
func (p *pass) removeAddr(op int, a kstate.Addr) error {
	entries, err := p.c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, noted := entries[entry(a)]
	if noted {
		p.undone[op] = entry(a)
	}
	s, err := p.space(a.NS)
	if errors.Is(err, kernel.ErrNoNamespace) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := s.device(a.Dev)
	if errors.Is(err, kernel.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	if !noted {
		return p.removeOwnAddr(op, s, d, a)
	}
	p.queueRemoval(op, s, d, a.Prefix)
	return nil
}

// queueRemoval queues the end of an address. By default the kernel removes
// other addresses of an IPv4 address's subnet with it (__inet_del_ifa in
// net/ipv4/devinet.c); on a device of somebody else that is off only meanwhile.
func (p *pass) queueRemoval(op int, s *space, d device, prefix netip.Prefix) {
	promote := func(on uint8) {
		if !d.promote && prefix.Addr().Is4() {
			s.addForgiving(op, inetConf(d.index, ipv4DevconfPromote, on), kernel.ErrMissing)
		}
	}
	promote(1)
	s.addForgiving(op, addrMessage(newMessage(unix.RTM_DELADDR, 0), prefix, d.index), kernel.ErrMissing)
	promote(0)
	p.c.recent.touch(d.index) // IPv6 notifications do not say who did it
}

// removeOwnAddr queues the end of an address that is ours by its device.
func (p *pass) removeOwnAddr(op int, s *space, d device, a kstate.Addr) error {
	mine, err := p.mine(s, d)
	if err != nil {
		return err
	}
	if !mine {
		if there, err := s.has(d.index, a.Prefix); err != nil || !there {
			return err
		}
		return foreign(a.String())
	}
	p.queueRemoval(op, s, d, a.Prefix)
	return nil
}

// addrMessage appends an address. IPv4 gets the subnet's broadcast address, as
// `ip address add … brd +` does, and IPv6 no duplicate address detection.
func addrMessage(m *message, p netip.Prefix, index int) *message {
	ip := p.Addr().AsSlice()
	var scope uint8 = unix.RT_SCOPE_UNIVERSE
	if p.Addr().IsLoopback() {
		scope = unix.RT_SCOPE_HOST
	}
	m.addr(family(p.Addr()), uint8(p.Bits()), scope, index).attr(unix.IFA_LOCAL, ip).attr(unix.IFA_ADDRESS, ip)
	if p.Addr().Is6() {
		return m.u32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	if p.Bits() <= 30 && !p.Addr().IsLoopback() {
		m.attr(unix.IFA_BROADCAST, broadcast(p))
	}
	return m
}

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b[:]
}

func family(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// mine reports whether a device is ours: by its group, or as the far end of a
// veth of ours.
func (p *pass) mine(s *space, d device) (bool, error) {
	host := p.host()
	if d.planned || d.ours() && s == host || s.lowered(d, host) || d.lent() && s != host {
		return true, nil
	}
	if d.kind != string(kstate.TypeVeth) || d.far == 0 {
		return false, nil
	}
	got, err := host.sock.get(getDevice("", d.far))
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	near := parseDevice(got)
	return near.ours() && near.far == d.index && s.fromHost(d, host), nil
}

// note writes a journal entry for an op, unless it is there.
func (p *pass) note(op int, key string) error {
	entries, err := p.c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, noted := entries[key]; noted {
		return nil
	}
	if err := p.c.journal.Put(key, ""); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	p.fresh[op] = key
	return nil
}

// settleAddr takes an address that is there exactly as wanted for done. If it
// was there before us, on a device that is not ours, it is not ours either.
func (p *pass) settleAddr(op int, a kstate.Addr, failed error) error {
	s, d, err := p.home(a)
	if err != nil {
		return failed
	}
	if there, err := s.has(d.index, a.Prefix); err != nil || !there {
		return failed
	}
	if key, ok := p.fresh[op]; ok {
		p.undone[op] = key
	}
	return nil
}

// has reports whether a device has an address.
func (s *space) has(index int, prefix netip.Prefix) (bool, error) {
	all, err := s.sock.addrs(context.Background())
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if a.index == index && a.prefix == prefix {
			return true, nil
		}
	}
	return false, nil
}

// address is an address as the kernel reports it.
type address struct {
	index  int
	prefix netip.Prefix
	origin uint8 // IFA_PROTO
	second bool  // see kstate.Addr
}

// subnet is a prefix on a device, by its index.
type subnet struct {
	index  int
	prefix netip.Prefix
}

// connected are the subnets that routes lead to without a router.
func connected(routes []route) map[subnet]bool {
	all := map[subnet]bool{}
	for _, r := range routes {
		if !r.via.IsValid() && !r.blackhole {
			all[subnet{r.index, r.dst}] = true
		}
	}
	return all
}

// routed reports whether the kernel makes a route with an address of ours.
func (a address) routed() bool { return !a.prefix.IsSingleIP() && !a.second }

// Origins of an address that the kernel made itself: linux/if_addr.h, since 5.18.
const (
	ifaProto   = 11
	ifaProtoLo = 1
	ifaProtoLL = 3
	ifaProtoRA = 2
)

// marked reports whether the kernel keeps marks of addresses, which shows by one: that
// of a loopback device's, of the kernel's own, where there is IPv6.
func marked(all []address) bool {
	return slices.ContainsFunc(all, func(a address) bool { return a.origin != 0 })
}

func (s *socket) addrs(ctx context.Context) ([]address, error) {
	request := func() *message { return newMessage(unix.RTM_GETADDR, 0).addr(unix.AF_UNSPEC, 0, 0, 0) }
	all, err := dump(ctx, s, request, parseAddress)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}

// parseAddress reads the body of an RTM_NEWADDR. IFA_LOCAL is the device's own
// address where IFA_ADDRESS is the other end of a point-to-point link.
func parseAddress(b []byte) (address, bool) {
	if len(b) < unix.SizeofIfAddrmsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return address{}, false
	}
	const second = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED // of IPv6 the first is IFA_F_TEMPORARY
	a := address{index: int(native.Uint32(b[4:])), second: b[2]&second != 0}
	var local, addr netip.Addr
	attrs(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(v)
		case ifaProto:
			a.origin = u8(v)
		}
	})
	if !local.IsValid() {
		local = addr
	}
	a.prefix = netip.PrefixFrom(local, int(b[1]))
	return a, a.prefix.IsValid()
}
