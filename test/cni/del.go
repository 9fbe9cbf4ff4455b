package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

func delChecks() []check {
	return []check{
		{"del.removes", "DEL", "must", "DEL removes the interface, and what belonged to it on the host", "", delRemoves},
		{"del.frees", "DEL", "must", "DEL frees the address: on a full /29 it can be had again", "", func(t *trial) error {
			return t.frees(func(a *attachment) error { return a.del() })
		}},
		{"del.twice", "DEL", "must", "DEL of what was deleted succeeds", "", delTwice},
		{"del.never", "DEL", "must", "DEL of a container that was never added, on a network that never was, succeeds", "", delNever},
		{"del.failed-add", "Lifecycle & Ordering", "must", "DEL after an ADD that failed succeeds", "", delFailedAdd},
		{"del.no-previous", "DEL", "should", "DEL without `prevResult` succeeds, and frees the address", "", func(t *trial) error {
			return t.frees(func(a *attachment) error { return a.del(key("prevResult", nil)) })
		}},
		{"del.namespace-gone", "DEL", "should", "DEL with the namespace gone and its path missing succeeds, and frees the address", "", func(t *trial) error {
			return t.frees(func(a *attachment) error {
				if err := a.c.end(); err != nil {
					return err
				}
				return a.del()
			})
		}},
		{"del.namespace-file", "DEL", "should", "DEL with the namespace gone and an empty file at its path succeeds, and frees the address", "", func(t *trial) error {
			return t.frees(func(a *attachment) error {
				if err := a.c.end(); err != nil {
					return err
				}
				if err := os.WriteFile(a.c.path, nil, 0o444); err != nil {
					return err
				}
				defer os.Remove(a.c.path)
				return a.del()
			})
		}},
		{"del.no-netns", "DEL", "must", "DEL without CNI_NETNS succeeds, and frees the address", "", func(t *trial) error {
			return t.frees(func(a *attachment) error { return a.del(unset("CNI_NETNS")) })
		}},
		{"del.interface-gone", "DEL", "must", "DEL with the interface gone succeeds, and frees the address", "", func(t *trial) error {
			return t.frees(func(a *attachment) error {
				if err := a.c.onLink("eth0", removeLink); err != nil {
					return err
				}
				return a.del()
			})
		}},
		{"del.other", "Section 3", "must", "DEL of one interface of a container leaves the other, and the other container", "", delOther},
		{"del.same-network", "Section 3", "should", "so it does if both are on one network, in either order", "", delSameNetwork},
		{"del.versions", "Section 5", "must", "DEL of every version announced removes the interface", "", delVersions},
		{"del.parallel", "Lifecycle & Ordering", "must", "20 DELs at once for different containers remove all of them", "", delParallel},
		{"del.mixed", "Lifecycle & Ordering", "must", "10 DELs and 10 ADDs at once do what each alone does", "", delMixed},
		{"del.killed", "DEL", "should", "DEL after an ADD that was killed on its way succeeds: after 15 of them a /29 is as large as before, and nothing is left on the host", "", delKilled},
	}
}

func delRemoves(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	before, err := photo(c)
	if err != nil {
		return err
	}
	a, err := t.add(n, c, "eth0")
	if err != nil {
		return err
	}
	if err := a.del(); err != nil {
		return err
	}
	return same(before, c)
}

// frees fills a /29, releases one container in some way, and sees that another
// one gets its place.
func (t *trial) frees(release func(*attachment) error) error {
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	all, err := t.fill(n)
	if err != nil {
		return err
	}
	if err := release(all[len(all)/2]); err != nil {
		return err
	}
	b, err := t.another(n)
	if err != nil {
		return err
	}
	return b.asReported()
}

func delTwice(t *trial) error {
	a, err := t.fresh()
	for range 3 {
		if err == nil {
			err = a.del()
		}
	}
	return err
}

func delNever(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	return (&attachment{t: t, n: n, c: c, ifname: "eth0", out: outcome{code: 1}}).del()
}

func delFailedAdd(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	a := t.attach(n, c, "eth0", variable("CNI_NETNS", "/run/netns/nobody"))
	if a.try().code == 0 {
		return seen("%v", a.out)
	}
	return a.del()
}

func delOther(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	b, err := t.add(n, a.c, "eth1")
	if err != nil {
		return err
	}
	other, err := t.another(a.n)
	if err != nil {
		return err
	}
	if err := a.del(); err != nil {
		return err
	}
	for _, left := range []*attachment{b, other} {
		if err := left.asReported(); err != nil {
			return fmt.Errorf("%s: %w", left.ifname, err)
		}
	}
	return nil
}

func delSameNetwork(t *trial) error {
	for _, first := range []int{0, 1} {
		a, err := t.fresh()
		if err != nil {
			return err
		}
		b, err := t.add(a.n, a.c, "eth1")
		if err != nil {
			return err
		}
		both := []*attachment{a, b}
		if err := both[first].del(); err != nil {
			return err
		}
		if err := both[first].vanishes(); err != nil {
			return err
		}
		left := both[1-first]
		if err := left.asReported(); err != nil {
			return fmt.Errorf("%s: %w", left.ifname, err)
		}
		if err := left.del(); err != nil {
			return err
		}
		if err := left.vanishes(); err != nil {
			return err
		}
	}
	return nil
}

func delVersions(t *trial) error {
	for _, v := range t.versions {
		a, err := t.fresh(version(v))
		if err != nil {
			return err
		}
		if err := a.del(); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
		if err := a.vanishes(); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	return nil
}

// vanishes waits until the device is gone.
func (a *attachment) vanishes() error {
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		links, err := a.c.links()
		if err != nil {
			return err
		}
		if _, there := links[a.ifname]; !there {
			return nil
		}
		if time.Now().After(deadline) {
			return seen("%s is still there", a.ifname)
		}
	}
}

func delParallel(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	before, err := photo()
	if err != nil {
		return err
	}
	all, err := t.crowd(slices.Repeat([]*network{n}, 20))
	if err != nil {
		return err
	}
	if err := endAll(all); err != nil {
		return err
	}
	return same(before)
}

// endAll detaches all in parallel.
func endAll(all []*attachment) error {
	atOnce(all, func(a *attachment) { a.later("DEL") })
	for i, a := range all {
		if !a.gone {
			return seen("the DEL of number %d of %d: %v", i+1, len(all), a.later("DEL"))
		}
		if err := a.vanishes(); err != nil {
			return err
		}
	}
	return nil
}

func delMixed(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	old, err := t.crowd(slices.Repeat([]*network{n}, 10))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- endAll(old) }()
	_, err = t.crowd(slices.Repeat([]*network{n}, 10))
	if failed := <-done; err == nil {
		err = failed
	}
	return err
}

func delKilled(t *trial) error {
	want, err := t.capacity(29)
	if err != nil {
		return err
	}
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	for i := range 15 {
		c, err := t.container()
		if err != nil {
			return err
		}
		a := t.attach(n, c, "eth0", func(c *call) {
			if c.command == "ADD" {
				c.kill = time.Duration(1+4*i) * time.Millisecond
			}
		})
		a.try()
		if err := t.quiet(); err != nil { // what it had started goes on without it
			return err
		}
		if err := a.del(); err != nil {
			return err
		}
	}
	if err := same(t.base); err != nil {
		return err
	}
	all, err := t.fill(n)
	if err == nil && len(all) != want {
		err = seen("%d containers fit, %d before", len(all), want)
	}
	return err
}
