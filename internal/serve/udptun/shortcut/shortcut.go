// Package shortcut has the kernel carry what is easy of a udptun.Tunnel's packets: two
// programs for the traffic control of devices (tc-bpf(8)) put outer headers on and take
// them off, and no process is woken.
//
//	sandboxes ─ route ─▶ tunnel's device: out ── easy ──────────────▶ underlay's device
//	                                       └── else ─▶ queue, Tunnel, socket ─▶
//	sandboxes ◀─ route ─ tunnel's device ◀─── easy ── in :underlay's device
//	                          queue, Tunnel, socket ◀── else ─┘
//
// Easy is what the Tunnel would carry without a further thought; all that it drops,
// counts, answers or cuts still comes to it. Between IPv6 addresses nothing is easy, for
// UDP has to have a checksum there (RFC 8200 8.1).
//
// A shortcut leads past the host's own firewall, its chains INPUT and OUTPUT, which judge
// a Tunnel's datagrams. So packets take it in a direction only after a socket's datagram to
// that host, or from it, was let pass, and that is asked anew each minute. Where the host
// has policies of IPsec there is none.
//
// What goes out by it has no UDP checksum (RFC 768: none), and may be 64 KiB of a TCP
// stream that nobody has cut yet, if the hosts are on one machine. A socket can make
// nothing of that, and flanneld has nothing else: only what is for a host that itself sends without checksums takes
// it. A host with a shortcut tells others of it so, by an empty datagram.
//
// Programs are held by the devices, and hold their maps: they go on when the process
// ends, and those of the next one replace them.
package shortcut

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// proofTime is how long a socket's word counts that the host's firewall lets a peer's
// datagrams pass.
const proofTime = time.Minute

// Config is what a shortcut is made of. All but the peers stays.
type Config struct {
	Device string       // the tunnel's
	Local  netip.Addr   // the underlay's IPv4 address, of a device that is found by it
	Port   uint16       // of UDP, at both ends
	Subnet netip.Prefix // this host's part of the network
}

// Shortcut is one that is in the kernel, unless Keep says why not. Its methods may be
// called from several goroutines.
type Shortcut struct {
	Config
	tables
	links   *netlink.Handle
	ipsec   *netlink.Handle // nil: the kernel has none
	device  int             // its number
	raw     int             // a socket that sends packets as they are
	out, in *ebpf.Program
	rounds  atomic.Uint32 // of proofs

	mu       sync.Mutex // protects the following
	peers    map[netip.Prefix]netip.Addr
	proofs   map[netip.Addr]*proof // of all peers
	underlay int                   // the number of the device that has the other program, or 0
	begun    time.Time
}

// Open loads the programs, in the caller's network namespace. They are attached by Keep.
func Open(c Config) (*Shortcut, error) {
	s := &Shortcut{Config: c, raw: -1, peers: map[netip.Prefix]netip.Addr{}, begun: time.Now()}
	s.rounds.Store(1)
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("shortcut of %s: %w", c.Device, err), s.Close())
	}
	return s, nil
}

func (s *Shortcut) open() (err error) {
	if !s.Local.Is4() || s.Local.IsUnspecified() || !s.Subnet.Addr().Is4() {
		return errors.New("no IPv4 address of the underlay's")
	}
	if err = rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("memory limit: %w", err) // before Linux 5.11 maps count as locked memory
	}
	if s.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	s.ipsec, err = netlink.NewHandle(unix.NETLINK_XFRM)
	if err != nil && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("IPsec: %w", err)
	}
	if s.raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return os.NewSyscallError("raw socket", err)
	}
	link, err := s.links.LinkByName(s.Device)
	if err != nil {
		return err
	}
	s.device = link.Attrs().Index
	if s.tables, err = newTables(); err != nil {
		return err
	}
	if s.out, err = load("sealane_out", s.Config.out(&s.tables)); err != nil {
		return err
	}
	s.in, err = load("sealane_in", s.Config.in(&s.tables, s.device))
	return err
}

// Keep attaches programs that are not attached, or not where the underlay's address is
// by now, and has the host's firewall asked again when it is time. An error says why
// nothing takes the shortcut.
func (s *Shortcut) Keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old error
	if time.Since(s.begun) >= proofTime {
		old = s.renew()
	}
	underlay, err := s.find()
	if err = errors.Join(err, old); err == nil {
		err = s.attach(underlay)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("shortcut of %s: %w", s.Device, err), s.detach())
	}
	return nil
}

// find returns the number of the underlay's device, or why it does not do.
func (s *Shortcut) find() (index int, err error) {
	if err := s.unprotected(); err != nil {
		return 0, err
	}
	addrs, err := s.links.AddrList(nil, netlink.FAMILY_V4)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // if it lacks that one, the next look finds it
		return 0, fmt.Errorf("addresses: %w", err)
	}
	for _, a := range addrs {
		if at, ok := netip.AddrFromSlice(a.IP); ok && at.Unmap() == s.Local {
			index = a.LinkIndex
		}
	}
	link, err := s.links.LinkByIndex(index)
	switch {
	case err != nil:
		return 0, fmt.Errorf("device with %v: %w", s.Local, err)
	case link.Attrs().EncapType != "ether":
		return 0, fmt.Errorf("%s: not an Ethernet device", link.Attrs().Name)
	}
	return index, nil
}

// Remove takes the programs away.
func (s *Shortcut) Remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detach()
}

// Close ends this process's part. What is attached stays.
func (s *Shortcut) Close() error {
	var errs []error
	for _, p := range []*ebpf.Program{s.out, s.in} {
		errs = append(errs, p.Close())
	}
	for _, h := range []*netlink.Handle{s.links, s.ipsec} {
		if h != nil {
			h.Close()
		}
	}
	if s.raw >= 0 {
		errs = append(errs, unix.Close(s.raw))
	}
	return errors.Join(append(errs, s.tables.close())...)
}
