package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
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
	b.table.absolute("kernel memory for an endpoint, with its namespace", each(before, full), atMost(300<<10, kibi))
	b.table.told("kernel memory for an empty namespace", each(before, empty), kibi, interval{})
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
