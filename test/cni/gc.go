package main

import "fmt"

func gcChecks() []check {
	const since = "1.1.0"
	return []check{
		{"gc.frees", "GC", "should", "GC frees the address of an attachment that is not listed and whose namespace is gone: on a full /29 it can be had again", since, gcFrees},
		{"gc.keeps", "GC", "must", "GC leaves listed attachments alone: they are as ADD left them, and CHECK succeeds", since, gcKeeps},
		{"gc.ifname", "GC", "must", "attachments are told apart by container and interface: one whose container is listed with another interface only goes", since, gcIfname},
		{"gc.other-network", "GC", "must", "GC of one network leaves another's attachments alone", since, gcOtherNetwork},
		{"gc.empty", "GC", "should", "GC with an empty list frees all addresses", since, gcEmpty},
		{"gc.no-key", "GC", "sense", "GC without `cni.dev/valid-attachments` does not take it for an empty list", since, gcNoKey},
		{"gc.twice", "GC", "should", "GC again, and GC of a network that never was, succeed and print nothing", since, gcTwice},
		{"gc.old", "Section 1", "sense", "GC with `cniVersion` 1.0.0, which has no GC, fails with code 1 or does nothing", since, gcOld},
	}
}

// valid is the key with the attachments of the list.
func valid(list ...*attachment) option {
	entries := []map[string]string{}
	for _, a := range list {
		entries = append(entries, map[string]string{"containerID": a.c.id, "ifname": a.ifname})
	}
	return key("cni.dev/valid-attachments", entries)
}

// gc executes GC on a network.
func (t *trial) gc(n *network, opts ...option) outcome {
	c := call{command: "GC", conf: n.conf(t.newest())}
	for _, o := range opts {
		o(&c)
	}
	return t.exec(c)
}

func gcFrees(t *trial) error {
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	all, err := t.fill(n)
	if err != nil {
		return err
	}
	if err := all[0].c.end(); err != nil {
		return err
	}
	if err := t.gc(n, valid(all[1:]...)).succeeded(); err != nil {
		return err
	}
	all[0].gone = true
	b, err := t.another(n)
	if err != nil {
		return err
	}
	return b.asReported()
}

// intact says whether an attachment is as ADD left it.
func (a *attachment) intact() error {
	err := a.asReported()
	if err == nil {
		err = a.later("CHECK").succeeded()
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", a.ifname, a.c.id, err)
	}
	return nil
}

func gcKeeps(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	var all []*attachment
	for range 3 {
		a, err := t.another(n)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	if err := t.gc(n, valid(all[:2]...)).succeeded(); err != nil {
		return err
	}
	for _, a := range all[:2] {
		if err := a.intact(); err != nil {
			return err
		}
	}
	return nil
}

func gcIfname(t *trial) error {
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	all, err := t.fill(n)
	if err != nil {
		return err
	}
	other := *all[0]
	other.ifname = "eth1"
	if err := t.gc(n, valid(append(all[1:], &other)...)).succeeded(); err != nil {
		return err
	}
	b, err := t.another(n)
	if err != nil {
		return err
	}
	if err := b.asReported(); err != nil {
		return err
	}
	return all[1].intact()
}

func gcOtherNetwork(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	b, err := t.fresh()
	if err != nil {
		return err
	}
	if err := t.gc(b.n, valid()).succeeded(); err != nil {
		return err
	}
	return a.intact()
}

func gcEmpty(t *trial) error {
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	all, err := t.fill(n)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := a.c.end(); err != nil {
			return err
		}
	}
	if err := t.gc(n, valid()).succeeded(); err != nil {
		return err
	}
	again, err := t.fill(n)
	if err == nil && len(again) != len(all) {
		err = seen("%d containers fit, %d before", len(again), len(all))
	}
	return err
}

func gcNoKey(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	if o := t.gc(a.n); o.code != 0 {
		if err := o.refused(nil); err != nil {
			return err
		}
	}
	return a.intact()
}

func gcTwice(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	never, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	for _, n := range []*network{a.n, a.n, never} {
		o := t.gc(n, valid())
		if err := o.succeeded(); err != nil {
			return err
		}
		if len(o.stdout) > 0 {
			return seen("%v", o)
		}
	}
	return nil
}

func gcOld(t *trial) error {
	a, err := t.fresh(version("1.0.0"))
	if err != nil {
		return err
	}
	if o := t.gc(a.n, version("1.0.0"), valid()); o.code != 0 {
		if err := o.refused([]uint{1}); err != nil {
			return err
		}
	}
	return a.intact()
}
