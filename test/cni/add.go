package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

func addChecks() []check {
	return []check{
		{"add.interface", "ADD", "must", "ADD makes CNI_IFNAME in CNI_NETNS, and sets it up", "", addInterface},
		{"add.address", "ADD Success", "must", "the interface has the addresses, the MAC and the MTU of the result, and no other", "", addAddress},
		{"add.routes", "ADD Success", "must", "the container has the routes of the result", "", addRoutes},
		{"add.gateway", "ADD Success", "sense", "the gateways of the result answer the container", "", addGateway},
		{"add.neighbours", "Overview", "sense", "two containers of a network reach each other over IPv4", "", func(t *trial) error {
			return t.neighbours("SUBNET", (*result).address)
		}},
		{"add.neighbours6", "Overview", "sense", "and over IPv6", "", func(t *trial) error {
			return t.neighbours("SUBNET6", (*result).address6)
		}},
		{"add.exists", "ADD", "must", "ADD fails when the interface exists, and leaves that one and the rest alone", "", addExists},
		{"add.exists-leak", "ADD", "sense", "an ADD that failed so has kept no address: after 12 of them a /29 is as large as before", "", func(t *trial) error {
			return t.leak(func(c *space) error { return c.occupy("eth0") })
		}},
		{"add.netns-missing", "ADD", "must", "ADD with a CNI_NETNS that does not exist fails, and leaves nothing on the host", "", func(t *trial) error {
			return t.refuses(nil, variable("CNI_NETNS", "/run/netns/nobody"))
		}},
		{"add.netns-file", "ADD", "must", "ADD with a CNI_NETNS that is a regular file fails, and leaves nothing on the host", "", addFile},
		{"add.netns-directory", "ADD", "must", "ADD with a CNI_NETNS that is a directory fails, and leaves nothing on the host", "", func(t *trial) error {
			return t.refuses(nil, variable("CNI_NETNS", "/run/netns"))
		}},
		{"add.netns-other", "ADD", "must", "ADD with a CNI_NETNS that is a namespace of another kind fails, and leaves nothing on the host", "", func(t *trial) error {
			return t.refuses(nil, variable("CNI_NETNS", "/proc/1/ns/uts"))
		}},
		{"add.netns-process", "Parameters", "sense", "a CNI_NETNS like /proc/PID/ns/net is as good, and DEL after that process has ended succeeds", "", addProcess},
		{"add.netns-leak", "ADD", "sense", "an ADD that failed for its namespace has kept no address: after 12 of them a /29 is as large as before", "", func(t *trial) error {
			return t.leak(func(*space) error { return nil }, variable("CNI_NETNS", "/run/netns/nobody"))
		}},
		{"add.exhausted", "ADD", "must", "ADD fails when all addresses are taken", "", func(t *trial) error {
			a, err := t.exhausted()
			if err != nil {
				return err
			}
			return a.try().refused(nil)
		}},
		{"add.exhausted-clean", "Lifecycle & Ordering", "sense", "an ADD that failed so leaves nothing behind for the DEL that has to follow", "", addExhaustedClean},
		{"add.two-networks", "ADD", "must", "one container is added to two networks, with another interface name", "", addTwoNetworks},
		{"add.twice", "ADD", "should", "one container is added to one network twice, with another interface name", "", addTwice},
		{"add.long-name", "Parameters", "must", "an interface name of 15 characters, or with a dot, hyphen and underscore, is used as it is", "", addLongName},
		{"add.long-id", "Parameters", "must", "container IDs of 64 characters that differ in the last one, or have `_`, `.` and `-`, are told apart", "", addLongID},
		{"add.again", "DEL", "must", "ADD works right after a DEL of the same container and interface", "", addAgain},
		{"add.parallel", "Lifecycle & Ordering", "must", "20 ADDs at once for different containers, which are the first of the network, give 20 addresses", "", addParallel},
		{"add.parallel-first", "Lifecycle & Ordering", "must", "the first ADDs of 10 networks at once succeed", "", addParallelFirst},
	}
}

func addInterface(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	l, err := a.link()
	if err != nil {
		return err
	}
	if !l.up {
		return seen("%s is down", l.name)
	}
	return nil
}

// link is the attachment's device in the container.
func (a *attachment) link() (link, error) {
	links, err := a.c.links()
	if err != nil {
		return link{}, err
	}
	l, ok := links[a.ifname]
	if !ok {
		return link{}, seen("no %s in the container", a.ifname)
	}
	return l, nil
}

func addAddress(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	return a.asReported()
}

// asReported compares the device with the result.
func (a *attachment) asReported() error {
	l, err := a.link()
	if err != nil {
		return err
	}
	i, in := a.result.inside(a.c.path, a.ifname)
	if in == nil {
		return seen("no interface %s with the sandbox %s in the result", a.ifname, a.c.path)
	}
	var want []string
	for _, x := range a.result.IPs {
		if x.Interface == nil || int(*x.Interface) == i {
			want = append(want, x.Address)
		}
	}
	slices.Sort(want)
	slices.Sort(l.addresses)
	switch {
	case len(want) == 0:
		return seen("no address in the result")
	case !slices.Equal(want, l.addresses):
		return seen("the result has %v, the interface %v", want, l.addresses)
	case !strings.EqualFold(in.MAC, l.mac):
		return seen("the result has the MAC %s, the interface %s", in.MAC, l.mac)
	case in.MTU != 0 && int(in.MTU) != l.mtu:
		return seen("the result has the MTU %d, the interface %d", in.MTU, l.mtu)
	}
	return nil
}

func addRoutes(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	for _, r := range a.result.Routes {
		ok, err := a.c.hasRoute(r.Dst, r.GW, a.ifname)
		if err != nil {
			return err
		}
		if !ok {
			routes, _ := a.c.routes()
			return seen("the result has %s, the container %s", r.Dst, strings.Join(routes, ", "))
		}
	}
	if len(a.result.Routes) == 0 {
		return inapplicable("no route in the result")
	}
	return nil
}

func addGateway(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	for _, g := range a.result.gateways() {
		if err := a.c.ping(g); err != nil {
			return err
		}
	}
	if len(a.result.gateways()) == 0 {
		return inapplicable("no gateway in the result")
	}
	return nil
}

// neighbours has two containers ping each other at an address of the result.
func (t *trial) neighbours(placeholder string, address func(*result) netip.Prefix) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	b, err := t.another(a.n)
	if err != nil {
		return err
	}
	to, from := address(b.result), address(a.result)
	if !to.IsValid() || !from.IsValid() {
		if t.has(placeholder) {
			return seen("no such address in the result")
		}
		return inapplicable("its configuration has no $%s", placeholder)
	}
	if err := a.c.ping(to.Addr()); err != nil {
		return err
	}
	return b.c.ping(from.Addr())
}

func addExists(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	if err := c.occupy("eth0"); err != nil {
		return err
	}
	before, err := c.links()
	if err != nil {
		return err
	}
	if err := t.harmless((&attachment{t: t, n: n, c: c, ifname: "eth0"}).call("ADD"), nil); err != nil {
		return err
	}
	after, err := c.links()
	if err != nil {
		return err
	}
	if was, is := before["eth0"], after["eth0"]; was.index != is.index || was.mac != is.mac || was.up != is.up || len(is.addresses) > 0 {
		return seen("before: %+v, after: %+v", was, is)
	}
	return nil
}

// leak has ADD fail twelve times on a /29, each time for a container that was
// spoilt, and compares how many containers fit on it with how many fit on
// another.
func (t *trial) leak(spoil func(*space) error, opts ...option) error {
	want, err := t.capacity(29)
	if err != nil {
		return err
	}
	n, err := t.newNetwork(29)
	if err != nil {
		return err
	}
	for range 12 {
		c, err := t.container()
		if err == nil {
			err = spoil(c)
		}
		if err != nil {
			return err
		}
		a := &attachment{t: t, n: n, c: c, ifname: "eth0", opts: opts} // never detached
		if a.try().code == 0 {
			return seen("%v", a.out)
		}
	}
	all, err := t.fill(n)
	if err == nil && len(all) != want {
		err = seen("%d containers fit, %d before", len(all), want)
	}
	return err
}

func addFile(t *trial) error {
	path := filepath.Join("/run", "file")
	if err := os.WriteFile(path, []byte("no namespace"), 0o644); err != nil {
		return err
	}
	defer os.Remove(path)
	return t.refuses(nil, variable("CNI_NETNS", path))
}

func addProcess(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	c, err := t.container()
	if err != nil {
		return err
	}
	sleep := exec.Command("sleep", "600")
	if err := c.do(sleep.Start); err != nil {
		return err
	}
	end := func() {
		sleep.Process.Kill()
		sleep.Wait()
	}
	defer end()
	path := fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid)
	a, err := t.add(n, c, "eth0", variable("CNI_NETNS", path))
	if err != nil {
		return err
	}
	if _, in := a.result.inside(path, "eth0"); in == nil {
		return seen("no interface with the sandbox %s: %v", "/proc/PID/ns/net", a.out)
	}
	end()
	if err := c.end(); err != nil {
		return err
	}
	return a.del()
}

// exhausted is an attachment for which there is no address any more.
func (t *trial) exhausted() (*attachment, error) {
	n, err := t.newNetwork(29)
	if err != nil {
		return nil, err
	}
	if _, err := t.fill(n); err != nil {
		return nil, err
	}
	c, err := t.container()
	return t.attach(n, c, "eth0"), err
}

func addExhaustedClean(t *trial) error {
	a, err := t.exhausted()
	if err != nil {
		return err
	}
	before, err := photo(a.c)
	if err != nil {
		return err
	}
	a.try()
	return same(before, a.c)
}

func addTwoNetworks(t *trial) error {
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
	if err := b.asReported(); err != nil {
		return err
	}
	return a.asReported()
}

func addTwice(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	b, err := t.add(a.n, a.c, "eth1")
	if err != nil {
		return err
	}
	if a.result.address() == b.result.address() {
		return seen("both have %v", a.result.address())
	}
	if err := a.asReported(); err != nil {
		return fmt.Errorf("eth0: %w", err)
	}
	return b.asReported()
}

func addLongName(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	for _, name := range []string{"abcdefghijklmno", "a.b-c_d"} {
		c, err := t.container()
		if err != nil {
			return err
		}
		a, err := t.add(n, c, name)
		if err != nil {
			return err
		}
		if err := a.asReported(); err != nil {
			return err
		}
	}
	return nil
}

func addLongID(t *trial) error {
	n, err := t.newNetwork(24)
	if err != nil {
		return err
	}
	taken := map[netip.Prefix]string{}
	for _, id := range []string{strings.Repeat("0123456789abcdef", 4), strings.Repeat("0123456789abcdef", 4)[:63] + "0", "a_b.c-d", "a_b.c-e"} {
		c, err := t.container()
		if err != nil {
			return err
		}
		c.id = id
		a, err := t.add(n, c, "eth0")
		if err != nil {
			return err
		}
		if other := taken[a.result.address()]; other != "" {
			return seen("%s and %s both have %v", other, id, a.result.address())
		}
		taken[a.result.address()] = id
		if err := a.asReported(); err != nil {
			return err
		}
	}
	return nil
}

func addAgain(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	for range 5 {
		if err := a.del(); err != nil {
			return err
		}
		if err := a.try().succeeded(); err != nil {
			return err
		}
		if err := a.asReported(); err != nil {
			return err
		}
	}
	return nil
}

// atOnce calls fn for all attachments in parallel.
func atOnce(all []*attachment, fn func(*attachment)) {
	var wait sync.WaitGroup
	for _, a := range all {
		wait.Go(func() { fn(a) })
	}
	wait.Wait()
}

// crowd adds a new container to each of the networks at the same time.
func (t *trial) crowd(networks []*network) ([]*attachment, error) {
	var all []*attachment
	for _, n := range networks {
		c, err := t.container()
		if err != nil {
			return nil, err
		}
		all = append(all, t.attach(n, c, "eth0"))
	}
	atOnce(all, func(a *attachment) { a.try() })
	taken := map[netip.Prefix]bool{}
	wrong := 0
	var first error
	for _, a := range all {
		err := a.out.succeeded()
		if err == nil {
			err = a.asReported()
		}
		if err == nil && taken[a.result.address()] {
			err = fmt.Errorf("%v was given twice", a.result.address())
		}
		if err != nil {
			wrong++
			first = err
		} else {
			taken[a.result.address()] = true
		}
	}
	if wrong > 0 {
		return all, seen("%d of %d: %v", wrong, len(all), first)
	}
	return all, nil
}

// addParallel tries it three times: a network is made only once.
func addParallel(t *trial) error {
	for range 3 {
		n, err := t.newNetwork(24)
		if err != nil {
			return err
		}
		if _, err := t.crowd(slices.Repeat([]*network{n}, 20)); err != nil {
			return err
		}
	}
	return nil
}

func addParallelFirst(t *trial) error {
	var networks []*network
	for range 10 {
		n, err := t.newNetwork(24)
		if err != nil {
			return err
		}
		networks = append(networks, n)
	}
	_, err := t.crowd(networks)
	return err
}
