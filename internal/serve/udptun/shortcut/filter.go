package shortcut

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// priority is of our filters, beside 24225 of those that passes keep. As a handle
// they have the number of their tunnel's device.
const priority = 24226

// load loads a program. The helpers that it calls are for those under the GPL.
func load(name string, code asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, Instructions: code, License: "GPL"})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	return p, nil
}

// attach attaches both programs, that of the underlay's device first, which may have been
// another before. The caller holds mu.
func (s *Shortcut) attach(underlay int) error {
	if s.underlay != underlay {
		elsewhere := func(device int, handle uint32) bool {
			return handle == uint32(s.device) && device != underlay && device != s.device
		}
		if err := sweep(s.links, elsewhere); err != nil {
			return err
		}
	}
	s.underlay = underlay
	return errors.Join(
		s.put(underlay, netlink.HANDLE_MIN_INGRESS, s.in),
		s.put(s.device, netlink.HANDLE_MIN_EGRESS, s.out))
}

// put attaches a program to a hook of a device, unless it is there.
func (s *Shortcut) put(device int, hook uint32, p *ebpf.Program) error {
	id, err := idOf(p)
	if err != nil {
		return err
	}
	there, err := filters(s.links, device, hook)
	if err != nil {
		return err
	}
	for _, f := range there {
		if f.Handle == uint32(s.device) && f.Id == id {
			return nil
		}
	}
	q := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}, QdiscType: "clsact",
	}
	if err := s.links.QdiscAdd(q); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	f := filterOf(device, hook, s.device)
	f.Fd, f.Name, f.DirectAction = p.FD(), "sealane", true
	if err := s.links.FilterReplace(f); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

func idOf(p *ebpf.Program) (int, error) {
	info, err := p.Info()
	if err != nil {
		return 0, err
	}
	id, _ := info.ID()
	return int(id), nil
}

func filterOf(device int, hook uint32, handle int) *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: device, Parent: hook, Handle: uint32(handle), Protocol: unix.ETH_P_ALL, Priority: priority,
	}}
}

// filters are ours at a hook of a device: none if that is gone, or has no hooks.
func filters(links *netlink.Handle, device int, hook uint32) ([]*netlink.BpfFilter, error) {
	all, err := links.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: device}}, hook)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	var ours []*netlink.BpfFilter
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Priority == priority {
			ours = append(ours, b)
		}
	}
	return ours, nil
}

// absent is what the kernel says of devices, hooks and filters that are not there.
func absent(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

// detach takes away the programs of this tunnel's device, wherever they are, also those of
// a process before. The caller holds mu.
func (s *Shortcut) detach() error {
	s.underlay = 0
	return sweep(s.links, func(_ int, handle uint32) bool { return handle == uint32(s.device) })
}

// Sweep takes away what former processes have left of other tunnels than those of the
// devices, in the caller's network namespace.
func Sweep(devices ...string) error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer links.Close()
	kept := map[uint32]bool{}
	for _, name := range devices {
		if l, err := links.LinkByName(name); err == nil {
			kept[uint32(l.Attrs().Index)] = true
		}
	}
	return sweep(links, func(_ int, handle uint32) bool { return !kept[handle] })
}

// sweep takes away those of our filters that are of no use.
func sweep(links *netlink.Handle, useless func(device int, handle uint32) bool) error {
	all, err := links.QdiscList(nil)
	if err != nil {
		return fmt.Errorf("list hooks: %w", err)
	}
	var errs []error
	for _, q := range all {
		if q.Type() != "clsact" {
			continue
		}
		for _, hook := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
			device := q.Attrs().LinkIndex
			ours, err := filters(links, device, hook)
			errs = append(errs, err)
			for _, f := range ours {
				if !useless(device, f.Handle) {
					continue
				}
				if err := links.FilterDel(filterOf(device, hook, int(f.Handle))); err != nil && !absent(err) {
					errs = append(errs, fmt.Errorf("remove filter: %w", err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// unprotected says why datagrams must not go past the kernel's IPsec: there is a policy.
func (s *Shortcut) unprotected() error {
	if s.ipsec == nil {
		return nil
	}
	policies, err := s.ipsec.XfrmPolicyList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("IPsec: %w", err)
	}
	if len(policies) > 0 {
		return errors.New("the host has policies of IPsec")
	}
	return nil
}
