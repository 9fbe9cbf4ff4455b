package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// settle is how long the kernel or a daemon may take to finish what the plugin
// has said is done.
const settle = 20 * time.Second

// trial is one check of one plugin. It ends with the containers made for it
// detached and gone.
type trial struct {
	*stand
	id       string
	networks int
	attached []*attachment

	mu     sync.Mutex // protects the following
	spaces []*space
}

// clear detaches what is left, ends the namespaces and waits until their
// devices are gone. Those that stay are what tidy.devices complains about.
func (t *trial) clear() {
	for _, a := range t.attached {
		if !a.gone {
			a.del()
		}
	}
	for _, s := range t.spaces {
		if err := s.end(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: namespace %s: %v\n", t.id, s.path, err)
		}
	}
	same(t.base)
}

// container makes a container.
func (t *trial) container() (*space, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := fmt.Sprintf("%s-%d", strings.ReplaceAll(t.id, ".", "-"), len(t.spaces)+1)
	s, err := newSpace(name, name)
	if err == nil {
		t.spaces = append(t.spaces, s)
	}
	return s, err
}

// network is a network's configuration as a list in /etc/cni/net.d has it.
type network struct {
	name   string
	subnet netip.Prefix
	config map[string]any
}

// newNetwork makes one of 254 or, with bits 29, five or six addresses.
func (t *trial) newNetwork(bits int) (*network, error) {
	if bits != 24 && !t.has("SUBNET") {
		return nil, inapplicable("its configuration has no $SUBNET: a small network cannot be had")
	}
	t.networks++
	t.subnets++
	n := &network{
		name:   fmt.Sprintf("%s-n%d", strings.ReplaceAll(t.id, ".", "-"), t.networks),
		subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(t.subnets), 0}), bits),
	}
	text := os.Expand(t.Config, func(name string) string {
		switch name {
		case "SUBNET":
			return n.subnet.String()
		case "SUBNET6":
			return fmt.Sprintf("fd00:77:0:%x::/64", t.subnets)
		case "DEVICE":
			return fmt.Sprintf("cni%d", t.subnets)
		}
		return "$" + name
	})
	err := json.Unmarshal([]byte(text), &n.config)
	delete(n.config, "capabilities") // section 3: it must not be in what the plugin gets
	return n, err
}

// conf is the object for the plugin.
func (n *network) conf(version string) map[string]any {
	c := maps.Clone(n.config)
	c["cniVersion"], c["name"] = version, n.name
	return c
}

// option changes a call.
type option func(*call)

// key sets a key of the configuration.
func key(name string, value any) option {
	return func(c *call) { c.conf[name] = value }
}

// variable sets an environment variable.
func variable(name, value string) option {
	return func(c *call) { c.env = map[string]string{name: value} }
}

// unset leaves environment variables out.
func unset(names ...string) option {
	return func(c *call) { c.without = names }
}

// version has the configuration be of a version.
func version(v string) option { return key("cniVersion", v) }

// raw replaces the configuration by bytes.
func raw(b string) option {
	return func(c *call) { c.raw = []byte(b) }
}

// attachment is a container on a network.
type attachment struct {
	t      *trial
	n      *network
	c      *space
	ifname string
	opts   []option
	out    outcome // of ADD
	result *result // of ADD, if it succeeded
	gone   bool    // DEL has succeeded
}

// call is a call about the attachment, as it was added.
func (a *attachment) call(command string, opts ...option) call {
	c := call{command: command, on: a.c, ifname: a.ifname, conf: a.n.conf(a.t.newest())}
	for _, o := range slices.Concat(a.opts, opts) {
		o(&c)
	}
	return c
}

// try executes ADD, come what may. Attachments are tried in parallel by those
// who make them with attach.
func (a *attachment) try() outcome {
	a.out = a.t.exec(a.call("ADD"))
	a.gone = false
	if v, ok := a.call("ADD").conf["cniVersion"].(string); ok && a.out.succeeded() == nil {
		// What a result of the wrong form has is judged by the checks of forms.
		a.result, _ = parse(v, a.out.stdout)
		if a.result == nil {
			a.result = &result{}
		}
	}
	return a.out
}

// attach makes an attachment that is not added yet.
func (t *trial) attach(n *network, c *space, ifname string, opts ...option) *attachment {
	a := &attachment{t: t, n: n, c: c, ifname: ifname, opts: opts, gone: true}
	t.attached = append(t.attached, a)
	return a
}

// add adds a container to a network. Checks take it for granted that this
// succeeds and makes the interface.
func (t *trial) add(n *network, c *space, ifname string, opts ...option) (*attachment, error) {
	a := t.attach(n, c, ifname, opts...)
	if err := a.try().succeeded(); err != nil {
		return a, fmt.Errorf("ADD of %s: %w", ifname, err)
	}
	_, err := a.link()
	return a, err
}

// fresh adds eth0 of a new container to a new network of 254 addresses.
func (t *trial) fresh(opts ...option) (*attachment, error) {
	n, err := t.newNetwork(24)
	if err != nil {
		return nil, err
	}
	return t.another(n, opts...)
}

// another adds eth0 of a new container to a network.
func (t *trial) another(n *network, opts ...option) (*attachment, error) {
	c, err := t.container()
	if err != nil {
		return nil, err
	}
	return t.add(n, c, "eth0", opts...)
}

// later executes a command about an attachment that was added, with the result
// of ADD as the previous one, unless opts say otherwise.
func (a *attachment) later(command string, opts ...option) outcome {
	prev := key("prevResult", json.RawMessage(a.out.stdout))
	if a.out.code != 0 {
		prev = func(*call) {}
	}
	o := a.t.exec(a.call(command, slices.Concat([]option{prev}, opts)...))
	if command == "DEL" && o.code == 0 {
		a.gone = true
	}
	return o
}

// del detaches; that it succeeds is taken for granted by the check.
func (a *attachment) del(opts ...option) error {
	if err := a.later("DEL", opts...).succeeded(); err != nil {
		return fmt.Errorf("DEL of %s: %w", a.ifname, err)
	}
	return nil
}

// limit is more containers than a /29 has addresses.
const limit = 9

// fill adds containers to a network until ADD fails, which it has to by the
// time there are limit, and returns those that it added. The one that failed is
// followed by DEL, as a runtime does.
func (t *trial) fill(n *network) ([]*attachment, error) {
	var out []*attachment
	for range limit {
		c, err := t.container()
		if err != nil {
			return nil, err
		}
		a := t.attach(n, c, "eth0")
		if a.try().code != 0 {
			if len(out) == 0 {
				return nil, seen("the first ADD: %v", a.out)
			}
			return out, a.del()
		}
		out = append(out, a)
	}
	return nil, seen("%d containers got an address of %v", limit, n.subnet)
}

// capacity is how many containers fit on a fresh network of bits.
func (t *trial) capacity(bits int) (int, error) {
	n, err := t.newNetwork(bits)
	if err != nil {
		return 0, err
	}
	all, err := t.fill(n)
	for _, a := range all {
		if err == nil {
			err = a.del()
		}
	}
	return len(all), err
}

// photo is what attachments consist of: the links of the host that are no
// bridges, since a network's may stay, and those of containers.
func photo(spaces ...*space) ([]string, error) {
	var out []string
	host, err := (*space)(nil).links()
	if err != nil {
		return nil, err
	}
	for _, l := range host {
		if l.kind != "bridge" {
			out = append(out, fmt.Sprintf("%s on the host", l.name))
		}
	}
	for _, s := range spaces {
		in, err := s.links()
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, l := range in {
			out = append(out, fmt.Sprintf("%s in the container", l.name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// same waits until what is there is what was there before.
func same(before []string, spaces ...*space) error {
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		now, err := photo(spaces...)
		if err != nil {
			return err
		}
		if slices.Equal(before, now) {
			return nil
		}
		if time.Now().After(deadline) {
			return seen("%s", difference(before, now))
		}
	}
}

func difference(before, now []string) string {
	var out []string
	for _, x := range now {
		if !slices.Contains(before, x) {
			out = append(out, "left behind: "+x)
		}
	}
	for _, x := range before {
		if !slices.Contains(now, x) {
			out = append(out, "gone: "+x)
		}
	}
	return strings.Join(out, ", ")
}

// harmless executes a call that has to be refused, and sees that nothing was
// made.
func (t *trial) harmless(c call, codes []uint, words ...string) error {
	var spaces []*space
	if c.on != nil {
		spaces = append(spaces, c.on)
	}
	before, err := photo(spaces...)
	if err != nil {
		return err
	}
	o := t.exec(c)
	if err := o.refused(codes, words...); err != nil {
		return err
	}
	if err := same(before, spaces...); err != nil {
		return fmt.Errorf("%v; %w", o, err)
	}
	return nil
}
