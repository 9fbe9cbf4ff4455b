package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// crowdedNetwork is how many endpoints one network has here: more than a bridge
// has ports.
const crowdedNetwork = 3000

// scaleRows measures attaching that many namespaces to one network, one after
// the other, and what the kernel keeps for them.
func scaleRows(b *bench) error {
	n := crowdedNetwork
	if b.quick {
		n /= 10
	}
	if _, _, err := b.plainCrowd(n); err != nil { // what the kernel keeps for later, it has then
		return err
	}
	if err := b.crowd(n); err != nil {
		return err
	}
	took, memory, err := b.plainCrowd(n)
	if err != nil {
		return err
	}
	b.table.told(fmt.Sprintf("%d bare veths on bare bridges, all", n), outcome{ours: []float64{took}}, seconds, interval{})
	b.table.told("kernel memory for one, with its namespace", outcome{ours: []float64{memory}}, kibi, interval{})
	return nil
}

// crowd measures n endpoints of ours.
func (b *bench) crowd(n int) error {
	s, err := b.newSealane()
	if err != nil {
		return err
	}
	defer s.close()
	before, err := settledMemory()
	if err != nil {
		return err
	}
	paths, err := s.spaces("scale", n)
	if err != nil {
		return err
	}
	empty, err := settledMemory()
	if err != nil {
		return err
	}
	took, err := timed(func() error { _, err := s.attachAll(paths); return err })
	if err != nil {
		return err
	}
	full, err := settledMemory()
	if err != nil {
		return err
	}
	what, all := fmt.Sprintf("attach %d to one network, all", n), outcome{ours: []float64{took}}
	if n == crowdedNetwork {
		b.table.absolute(what, all, atMost(6, seconds))
	} else {
		b.table.told(what, all, seconds, interval{})
	}
	each := func(from, to float64) outcome { return outcome{ours: []float64{(to - from) / float64(n)}} }
	b.table.absolute("kernel memory for an endpoint", each(empty, full), atMost(300<<10, kibi))
	b.table.told("the same, with its namespace", each(before, full), kibi, interval{})
	return nil
}

// plainCrowd is how long n veths take to make, each an interface with an address
// in its namespace and a bridge's port in the host, by one call after the other
// without looking at what is there, and what the kernel keeps for each.
func (b *bench) plainCrowd(n int) (took, memory float64, err error) {
	h, err := newHost()
	if err != nil {
		return 0, 0, err
	}
	defer h.close()
	before, err := settledMemory()
	if err != nil {
		return 0, 0, err
	}
	paths, err := h.spaces("plain", n)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := h.do(func() error { return plainPorts(paths) }); err != nil {
		return 0, 0, fmt.Errorf("plain veths: %w", err)
	}
	for i, path := range paths {
		address := fmt.Sprintf("10.0.%d.%d/16", i/250, i%250+2)
		if err := h.within(path, hostCPU, func() error { return configure("eth0", address) }); err != nil {
			return 0, 0, err
		}
	}
	took = time.Since(start).Seconds()
	full, err := settledMemory()
	return took, (full - before) / float64(n), err
}

// plainPorts makes bridges, as many as they take, and a port for each namespace.
func plainPorts(paths []string) error {
	const most = 1000
	var bridge *netlink.Bridge
	for i, path := range paths {
		if i%most == 0 {
			bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("plain%d", i/most), TxQLen: -1}}
			if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge)); err != nil {
				return err
			}
		}
		space, err := netns.GetFromPath(path)
		if err != nil {
			return err
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("port%d", i), MasterIndex: bridge.Index, TxQLen: -1, NumTxQueues: 1, NumRxQueues: 1}, PeerName: "eth0", PeerNamespace: netlink.NsFd(space)}
		err = netlink.LinkAdd(veth)
		if err == nil {
			err = netlink.LinkSetUp(veth)
		}
		space.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// settledMemory is what the kernel keeps for itself, in bytes, once that has
// stopped changing: what was removed before goes late.
func settledMemory() (float64, error) {
	last, err := kernelMemory()
	for range 60 {
		if err != nil {
			return 0, err
		}
		time.Sleep(500 * time.Millisecond)
		var now float64
		now, err = kernelMemory()
		if change := now - last; -1<<20 < change && change < 1<<20 {
			return now, err
		}
		last = now
	}
	return last, err
}

// kernelMemory sums up the lines of /proc/meminfo about objects, memory per
// processor and areas, which stacks are of. Pages that the kernel takes one by
// one have no line there.
func kernelMemory() (float64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum float64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "Slab", "Percpu", "VmallocUsed":
			var kib float64
			if _, err := fmt.Sscan(value, &kib); err != nil {
				return 0, fmt.Errorf("meminfo: %s: %w", name, err)
			}
			sum += 1024 * kib
		}
	}
	return sum, nil
}
