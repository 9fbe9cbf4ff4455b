package shortcut

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// tables are what the programs look up. Addresses are in network order.
type tables struct {
	routes *ebpf.Map // which host has a prefix (subnet)
	hosts  *ebpf.Map // what is known of it (known)
}

// subnet is a key of the trie: how many bits count, and the address.
type subnet struct {
	Bits uint32
	Addr [4]byte
}

// known is what is known of a host: 0 is no.
type known struct {
	Out, In uint32 // the firewall lets datagrams to it, or from it, pass
	Able    uint32 // it has a shortcut, for it sends without checksums; the program notes that
}

// Way is one of both that datagrams go.
type Way int

// The ways of datagrams.
const (
	Out Way = iota
	In
)

// Sizes. A hash pays 16 bytes for each entry that it may have; hosts that are too many
// have no shortcut.
const (
	maxSubnets = 1 << 20
	maxHosts   = 1 << 14
)

func newTables() (t tables, err error) {
	t.routes, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "sealane_routes", Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: maxSubnets, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return t, fmt.Errorf("trie: %w", err)
	}
	t.hosts, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "sealane_hosts", Type: ebpf.Hash, KeySize: 4, ValueSize: 12, MaxEntries: maxHosts, Flags: unix.BPF_F_NO_PREALLOC,
	})
	return t, err
}

func (t *tables) close() error { return errors.Join(t.routes.Close(), t.hosts.Close()) }

// SetPeers says which hosts have which prefixes; of IPv6 there are none.
func (s *Shortcut) SetPeers(peers map[netip.Prefix]netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for p, a := range s.peers {
		if peers[p] != a {
			errs = append(errs, s.routes.Delete(subnetOf(p)))
			delete(s.peers, p)
		}
	}
	hosts := map[netip.Addr]*proof{}
	for p, a := range peers {
		if !p.Addr().Is4() || !a.Is4() {
			continue
		}
		if old := s.proofs[a]; old != nil {
			hosts[a] = old
		} else if hosts[a] == nil {
			err := s.hosts.Put(a.As4(), known{})
			if errors.Is(err, unix.E2BIG) {
				continue
			}
			hosts[a], errs = &proof{}, append(errs, err)
		}
		if s.peers[p] != a {
			errs = append(errs, s.routes.Put(subnetOf(p), a.As4()))
			s.peers[p] = a
		}
	}
	for a := range s.proofs {
		if hosts[a] == nil {
			errs = append(errs, s.hosts.Delete(a.As4()))
		}
	}
	s.proofs = hosts
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("shortcut of %s: peers: %w", s.Device, err)
	}
	return nil
}

func subnetOf(p netip.Prefix) subnet { return subnet{uint32(p.Bits()), p.Addr().As4()} }
