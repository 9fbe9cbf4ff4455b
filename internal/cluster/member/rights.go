package member

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/sealane/sealane/internal/cluster/flannel"
)

// What a host may write, by the certificate of its name. All of it is on condition that
// the key is as it was read (wish, bid):
//
//	key                   put, where nothing is     put, over what is there   delete
//	FABRIC/config         a config, of no other's   the same                  yes
//	                      addresses
//	FABRIC/subnets/NAME   its own lease, new        its own lease, if it      if it
//	                                                holds what is there       holds it
//
// A host's own lease names it, by name and ID; has its end by an etcd lease of that
// host, unless it is a reservation already; leads to no address, and no device, that is
// known as another host's. A new one is of the fabric's network, no larger than the
// config has them, overlaps no other, and is one of maxSubnets at most. A host holds a
// lease that names it, and one that names none but its address: somebody reserved it.

// maxSubnets is how many leases one host may have in one fabric: it uses one, and a store
// that was restored may have older ones.
const maxSubnets = 4

// owns says whether an etcd lease is a host's.
func (r Record) owns(lease int64) bool { return r.Number != 0 && lease>>32 == int64(r.Number) }

// judge says why a host may not have what it bids for, in a scene where the bid's
// conditions hold.
func (b bid) judge(host Record, s scene) error {
	if host.ID == "" {
		return fmt.Errorf("host %s: joined without an ID, by which it is known in leases", host.Name)
	}
	renews := b.renews(s)
	for _, w := range b.wishes {
		if err := b.judgeOne(host, w, s, renews); err != nil {
			verb := map[bool]string{true: "delete", false: "put"}[w.put == nil]
			return fmt.Errorf("host %s may not %s %s: %w", host.Name, verb, w.key, err)
		}
	}
	return nil
}

func (b bid) judgeOne(host Record, w wish, s scene, renews bool) error {
	if w.isShared() {
		return b.judgeShared(host, w, s)
	}
	if w.subnet == "" {
		return b.checkConfig(w, s)
	}
	now := s.keys[w.key]
	holds, vacant, who := tenant(host, s.said(w.key))
	switch {
	case !holds && !vacant, w.put == nil && !holds:
		return fmt.Errorf("it is %s", who)
	case w.put == nil:
		return nil
	}
	v, err := w.value(host, now, s.said(w.key))
	if err != nil || renews {
		return err
	}
	if vacant {
		if err := b.checkNew(host, w, s); err != nil {
			return err
		}
	}
	return b.checkApart(host, w, v, s)
}

// checkConfig judges a config: any host makes, changes and removes networks. But with one
// over another's addresses, it could have subnets that are leased there.
func (b bid) checkConfig(w wish, s scene) error {
	if w.put == nil {
		return nil
	}
	if w.put.Lease != 0 {
		return errors.New("a config does not end by itself")
	}
	c, err := flannel.ParseConfig(w.put.Value)
	if err != nil {
		return err
	}
	if was := s.said(w.key); was != nil && was.config.V4.Network == c.V4.Network && was.config.V6.Network == c.V6.Network {
		return nil
	}
	for _, key := range append(s.under(string(b.domain)+besideRoot), string(b.domain)+"/config") {
		o := s.said(key)
		if p, is := b.domain.place(key); !is || p.subnet != "" || o == nil || key == w.key || b.drops(key) {
			continue
		}
		for _, p := range []netip.Prefix{o.config.V4.Network, o.config.V6.Network} {
			if p.IsValid() && (p.Overlaps(c.V4.Network) || p.Overlaps(c.V6.Network)) {
				return fmt.Errorf("its network overlaps %s, of %s", p, key)
			}
		}
	}
	return nil
}

// tenant says whether a host holds what is under a lease's key, or nobody does, or who.
func tenant(host Record, now *said) (holds, vacant bool, who string) {
	if now == nil || now.err != nil {
		return false, true, "nobody's" // whatever it is, no host reads it
	}
	v := now.lease
	switch {
	case v.Node != nil:
		return v.Node.ID == host.ID, false, fmt.Sprintf("held by %s (%s)", v.Node.Name, v.Node.ID)
	case v.Public4.IsValid():
		return slices.Contains(host.Addrs, v.Public4), false, "of who is at " + v.Public4.String()
	}
	return slices.Contains(host.Addrs, v.Public6), false, "of who is at " + v.Public6.String()
}

// value reads what a host puts, if it is a lease of that host's.
func (w wish) value(host Record, now *mvccpb.KeyValue, was *said) (v flannel.Value, err error) {
	if v, err = flannel.ParseValue(w.put.Value); err != nil {
		return v, err
	}
	reserved := now != nil && now.Lease == 0
	switch {
	case w.put.Lease == 0 && !reserved:
		return v, errors.New("a lease ends without its host: it has to have a lease of etcd's")
	case w.put.Lease != 0 && !host.owns(w.put.Lease):
		return v, errors.New("the lease of etcd's is not this host's")
	case v.Node == nil && reserved && w.put.Lease == 0 && bare(v, was):
		return v, nil
	case v.Node == nil:
		return v, errors.New("it does not name the host")
	case v.Node.ID != host.ID || v.Node.Name != host.Name:
		return v, fmt.Errorf("it names another host, %s (%s): this one joined as %s (%s)", v.Node.Name, v.Node.ID, host.Name, host.ID)
	}
	return v, nil
}

// bare says whether a lease becomes the reservation that it was, for the same addresses.
func bare(v flannel.Value, was *said) bool {
	return was.err == nil && v.BackendType == "" && len(v.BackendData)+len(v.BackendV6Data)+len(v.Others) == 0 &&
		v.Public4 == was.lease.Public4 && v.Public6 == was.lease.Public6
}

// checkNew judges a lease's key where nothing is.
func (b bid) checkNew(host Record, w wish, s scene) error {
	subnet, err := flannel.ParseKey(w.subnet)
	if err != nil || subnet.Key() != w.subnet {
		return errors.New("that is no subnet's name")
	}
	fabric := s.said(w.config())
	if fabric == nil || fabric.err != nil {
		return errors.New("the fabric has no config that can be read")
	}
	c := fabric.config
	if !mayHave(c.V4, subnet.V4) || !mayHave(c.V6, subnet.V6) || subnet.IsZero() {
		return fmt.Errorf("%s: is not a host's part of the fabric's network", subnet)
	}
	own := 0
	for _, key := range s.under(w.subnets()) {
		if key == w.key || b.drops(key) {
			continue
		}
		if holds, _, who := tenant(host, s.said(key)); holds {
			own++
		} else if other, err := flannel.ParseKey(strings.TrimPrefix(key, w.subnets())); err == nil && part(c, other).Overlaps(subnet) {
			return fmt.Errorf("it overlaps %s, which is %s", other, who)
		}
	}
	if own >= maxSubnets {
		return fmt.Errorf("it has %d subnets already", own)
	}
	return nil
}

// mayHave says whether a prefix, if there is one, can be one host's part of a network.
func mayHave(r flannel.Range, p netip.Prefix) bool {
	return !p.IsValid() || r.Network.IsValid() && r.Network.Contains(p.Addr()) && p.Bits() >= r.SubnetLen
}

// part is what a lease takes from a fabric's network: what is of another network, or the
// whole of it, takes nothing.
func part(c flannel.Config, s flannel.Subnet) flannel.Subnet {
	holds := func(r flannel.Range, p netip.Prefix) bool {
		return p.IsValid() && r.Network.IsValid() && r.Network.Contains(p.Addr()) && p.Bits() > r.Network.Bits()
	}
	if !holds(c.V4, s.V4) {
		s.V4 = netip.Prefix{}
	}
	if !holds(c.V6, s.V6) {
		s.V6 = netip.Prefix{}
	}
	return s
}

// checkApart refuses a lease that would have others send to a host, or a device, what is
// for another. An address of the host's own certificate is its, whoever had it before.
func (b bid) checkApart(host Record, w wish, v flannel.Value, s scene) error {
	var moved []netip.Addr
	for _, a := range []netip.Addr{v.Public4, v.Public6} {
		if a.IsValid() && !slices.Contains(host.Addrs, a) {
			moved = append(moved, a)
		}
	}
	for _, key := range s.under(keyHosts) {
		h := s.said(key).host
		if h.Name == host.Name {
			continue
		}
		if i := slices.IndexFunc(moved, func(a netip.Addr) bool { return slices.Contains(h.Addrs, a) }); i >= 0 {
			return fmt.Errorf("address %s is that of %s", moved[i], h.Name)
		}
	}
	devices := v.Devices()
	for _, key := range s.under(w.subnets()) {
		if holds, vacant, who := tenant(host, s.said(key)); !holds && !vacant && key != w.key {
			if err := clash(s.said(key), moved, devices, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// clash compares with another's lease.
func clash(o *said, addrs []netip.Addr, devices []string, who string) error {
	for _, a := range addrs {
		if a == o.lease.Public4 || a == o.lease.Public6 {
			return fmt.Errorf("address %s is in a lease that is %s", a, who)
		}
	}
	for _, x := range o.devices {
		if slices.Contains(devices, x) {
			return fmt.Errorf("%s is in a lease that is %s", x, who)
		}
	}
	return nil
}
