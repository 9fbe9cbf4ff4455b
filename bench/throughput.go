package main

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// throughputRows measures one TCP stream between two containers on one bridge,
// against a veth pair without anything between, of the same MTU; also with
// br_netfilter.
func throughputRows(b *bench) error {
	for _, filtered := range []bool{false, true} {
		if err := throughputRow(b, filtered); err != nil {
			return err
		}
	}
	return nil
}

func throughputRow(b *bench, filtered bool) error {
	s, err := b.newSealane()
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.filterBridged(filtered); err != nil {
		return err
	}
	bridged, err := s.spaces("bridged", 2)
	if err == nil {
		_, err = s.attachAll(bridged)
	}
	if err != nil {
		return err
	}
	bare, err := s.barePair()
	if err != nil {
		return err
	}
	ours, err := s.betweenBlock(bridged)
	if err != nil {
		return err
	}
	peer, err := s.betweenBlock(bare)
	if err != nil {
		return err
	}
	o, err := b.contest(b.times(21), ours, peer)
	if err != nil {
		return err
	}
	what := "container to container / bare veth"
	if filtered {
		what += ", br_netfilter"
	}
	b.table.compared(what, o, gbits, o.ratio().inverse(), atLeast(0.95, times))
	return nil
}

// bareMTU is that of our networks in a host without a way out.
const bareMTU = 1500

// barePair makes two namespaces with a veth pair between them.
func (s *sealane) barePair() ([]string, error) {
	paths, err := s.spaces("bare", 2)
	if err != nil {
		return nil, err
	}
	far, err := netns.GetFromPath(s.path(paths[1]))
	if err != nil {
		return nil, err
	}
	defer far.Close()
	return paths, s.within(paths[0], 0, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: bareMTU, TxQLen: -1}, PeerName: "eth0", PeerMTU: bareMTU, PeerNamespace: netlink.NsFd(far)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		if err := configure("eth0", "192.168.99.1/24"); err != nil {
			return err
		}
		return s.within(paths[1], 0, func() error { return configure("eth0", "192.168.99.2/24") })
	})
}

// betweenBlock returns a run that sends from the first namespace to the second.
func (s *sealane) betweenBlock(paths []string) (block, error) {
	var to netip.Addr
	err := s.within(paths[1], 1, func() (err error) {
		to, err = ownAddress()
		return err
	})
	return s.bulkBlock(paths[0], paths[1], to), err
}
