package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
)

// Docker's networks are of one host, and a fabric is of all: it is one of Docker's on
// a host as long as Network.Docker says so. Docker's network has the whole prefix, and
// its containers have addresses of the host's lease, whichever that is. That is what
// Docker's networks are told apart by, too: a driver does not hear their names.
//
//	RequestPool 10.5.0.0/16 ─▶ pool ─▶ TakeFabric: the fabric with that prefix, or a new one
//	RequestAddress 10.5.0.0/16 ──────▶ 10.5.1.2/24

// TakeFabric makes the fabric with the prefixes of spec, which Docker holds as pools,
// Docker's network spec.ID on this host. A cluster that has none gets one. What spec
// says has to be so.
func (e *Engine) TakeFabric(ctx context.Context, spec NetworkSpec) (err error) {
	defer e.timed("network_create")(&err)
	id := spec.ID
	spec.ID, spec.Origin, spec.FromPools, spec.Driver = "", "", false, model.DriverFabric
	for i := range spec.Subnets {
		if err := e.checkHeld(model.DriverFabric, &spec.Subnets[i]); err != nil {
			return err
		}
	}
	c, err := configOf(spec)
	if err != nil {
		return model.Errorf(model.Invalid, "network", "create", "%w", err)
	}
	n, err := e.fabricFor(ctx, spec, c)
	if err != nil {
		return err
	}
	if err := notOurs(n); err != nil {
		return err
	}
	if err := differs(n, spec.Options); err != nil {
		return model.Errorf(model.Conflict, n.Ref(), "use for Docker", "%w", err).WithHint("leave out what is to be as it is")
	}
	return e.dock(ctx, n.ID, id, spec.Subnets)
}

// checkHeld refuses a subnet of which Docker gives out addresses itself, or that it left
// to us, and leaves of it what the hosts share: Docker always says a gateway.
func (e *Engine) checkHeld(driver string, s *model.Subnet) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network", "create")
	pool, i := d.withSubnet(s.Prefix)
	switch {
	case pool == nil || pool.Driver != model.DriverPool:
		return d.errorf(model.Invalid, "subnet %s: driver %s gives each host's containers their addresses itself", s.Prefix, driver).WithHint("add --ipam-driver sealane")
	case pool.Chosen:
		if driver == model.DriverOverlay {
			return d.errorf(model.Invalid, "driver overlay: the subnet that all hosts have is missing").WithHint("add it, as --subnet 10.6.0.0/24")
		}
		return d.errorf(model.Invalid, "driver fabric: the prefix that the hosts' subnets are of is missing").WithHint("add it, as --subnet 10.5.0.0/16")
	}
	s.Range = pool.Subnets[i].Range
	if s.Gateway == s.Prefix.Addr().Next() {
		s.Gateway = netip.Addr{} // the first subnet is no host's
	}
	return nil
}

// fabricFor returns the fabric with the prefixes of a config, as a network of this
// host's. The cluster gets one if it has none: hosts that miss it at once make one.
func (e *Engine) fabricFor(ctx context.Context, spec NetworkSpec, c flannel.Config) (*model.Network, error) {
	if n := e.fabricOf(spec.Subnets); n != nil {
		return n, nil
	}
	if !e.clustered() {
		return e.createFabric(ctx, spec) // which says why not
	}
	beside := strings.ReplaceAll(spec.Subnets[0].Prefix.String(), "/", "-") // two hosts that make it have no name for it yet
	return e.claimFabric(ctx, spec, c, beside, func(all configs) (*model.Network, error) {
		if there := all.with(spec.Subnets); there != nil {
			return e.joinOld(ctx, "use for Docker", there)
		}
		return nil, nil
	})
}

// fabricOf returns this host's network of the fabric with those prefixes, or nil.
func (e *Engine) fabricOf(subnets []model.Subnet) *model.Network {
	for _, n := range e.networks() {
		if n.Fabric != nil && samePrefixes(n.Fabric.Whole, subnets) {
			return n
		}
	}
	return nil
}

func samePrefixes(whole []netip.Prefix, subnets []model.Subnet) bool {
	return len(whole) == len(subnets) && !slices.ContainsFunc(subnets, func(s model.Subnet) bool { return !slices.Contains(whole, s.Prefix) })
}

// differs says which option a fabric does not have as it was asked for: neither as it
// was made nor as that came to be.
func differs(n *model.Network, asked map[string]string) error {
	made, is := n.Options, n.Options
	is.Backend, is.SubnetLen = n.Fabric.Backend, n.Subnets[0].Prefix.Bits()
	return another(model.DriverFabric, []model.Options{made, is}, has(n), asked)
}

// another says which option is asked for that none of the sets has that a network has;
// all is what there is to say of them.
func another(driver string, sets []model.Options, all, asked map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		same := false
		for _, have := range sets {
			with, err := have.With(driver, key, asked[key])
			if err != nil {
				return err
			}
			same = same || reflect.DeepEqual(with, have)
		}
		if !same {
			return fmt.Errorf("option %s=%s: the network of the cluster has %s", key, asked[key], cmp.Or(all[model.OptionName(driver, key)], "another"))
		}
	}
	return nil
}

// has is what there is to say of the options of a fabric, by name.
func has(n *model.Network) map[string]string {
	out, b := n.Options.Map(), n.Fabric.Backend
	out["backend"], out["direct-routing"] = string(b.Type), strconv.FormatBool(b.DirectRouting)
	out["subnet-len"] = strconv.Itoa(n.Subnets[0].Prefix.Bits())
	for name, value := range map[string]int{"vni": b.VNI, "port": b.Port} {
		if value != 0 {
			out[name] = strconv.Itoa(value)
		}
	}
	return out
}

// dock notes that a network over hosts is Docker's too, which has the pools.
func (e *Engine) dock(ctx context.Context, own, id model.ID, subnets []model.Subnet) error {
	e.work.Lock()
	defer e.work.Unlock()
	n := e.intent.Networks[own]
	if n == nil {
		return model.Errorf(model.Gone, "network "+string(own), "use for Docker", "was removed from the cluster")
	}
	d := e.draft(n.Ref(), "use for Docker")
	if n.Docker != "" && n.Docker != id {
		return d.errorf(model.Conflict, "Docker of this host has it already").WithHint("docker network inspect %s", n.Docker)
	}
	c := *n
	c.Docker = id
	d.networks[n.ID] = &c
	d.dropPools(subnets)
	return d.commit(ctx)
}

// dropPools takes away the pools that Docker has of subnets.
func (d *draft) dropPools(subnets []model.Subnet) {
	for _, s := range subnets {
		if pool, _ := d.withSubnet(s.Prefix); pool != nil && pool.Driver == model.DriverPool {
			d.networks[pool.ID] = nil
		}
	}
}

// docked returns the network over hosts that is a network of Docker's, or nil.
func (e *Engine) docked(id model.ID) *model.Network {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, n := range e.intent.Networks {
		if n.Docker == id && id != "" {
			return n
		}
	}
	return nil
}

// undock ends what dock began. The network stays: others may use it.
func (e *Engine) undock(ctx context.Context, id model.ID) error {
	e.work.Lock()
	defer e.work.Unlock()
	n := e.docked(id)
	if n == nil {
		return nil
	}
	d := e.draft(n.Ref(), "remove from Docker")
	for _, sb := range e.intent.Sandboxes {
		for ep := range sb.On(n.ID) {
			if ep.Handed {
				return d.errorf(model.InUse, "still used by %s", sb.Name)
			}
		}
	}
	c := *n
	c.Docker, c.Waiting, c.Subnets = "", nil, slices.Clone(n.Subnets)
	for i := range c.Subnets {
		c.Subnets[i].Lent = nil
	}
	d.networks[n.ID] = &c
	if err := d.commit(ctx); err != nil {
		return err
	}
	e.recallOverlays() // it may have been waited for
	for _, s := range n.Subnets {
		for _, a := range s.Lent {
			d.takeBack(n, a)
		}
	}
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, w := range n.Waiting {
		for _, a := range w.Addrs {
			e.pools[poolKey{n.ID, a.Is6()}].Release(a, e.cfg.Now())
		}
	}
	return nil
}

// keepDocked gives a network over hosts as it is to be what Docker has of it as it is.
func keepDocked(n, old *model.Network) {
	if old == nil {
		return
	}
	n.Docker, n.Waiting = old.Docker, old.Waiting
	for i := range n.Subnets {
		for _, s := range old.Subnets {
			if s.Prefix == n.Subnets[i].Prefix {
				n.Subnets[i].Lent = s.Lent
			}
		}
	}
}

// promised reports whether Docker has addresses of a network for containers that are
// about to come.
func promised(n *model.Network) bool {
	return len(n.Waiting) > 0 || slices.ContainsFunc(n.Subnets, func(s model.Subnet) bool { return len(s.Lent) > 0 })
}

// fabricUsed reports whether anybody on this host would lose an address with the lease.
func (e *Engine) fabricUsed(key string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	n := e.fabricNetwork(key)
	return n != nil && (len(e.users(n.ID)) > 0 || promised(n))
}

// fabricKept reports whether a fabric that is no more has to stay on this host.
func (e *Engine) fabricKept(key string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	n := e.fabricNetwork(key)
	return n != nil && e.inhabited(n)
}

// checkPool refuses a subnet that another network has. That of a network over hosts can
// be had: for Docker to use it.
func (d *draft) checkPool(pool *model.Network) error {
	want := pool.Subnets[0].Prefix
	for _, n := range d.allNetworks() {
		switch {
		case !slices.Contains(wholeOf(n), want):
		case n.Docker != "":
			return d.errorf(model.Conflict, "subnet %s: is that of network %s, which Docker of this host has already", want, n.Name)
		default:
			for _, o := range d.allNetworks() {
				for _, s := range o.Subnets {
					if o.ID != n.ID && s.Prefix.Overlaps(want) {
						return d.errorf(model.Conflict, "subnet %s: overlaps %s of network %s", want, s.Prefix, o.Name)
					}
				}
			}
			return nil
		}
	}
	return d.checkOverlap(pool, &hostView{}) // the host's own may be on the network's wire: that says so
}

// wholeOf lists the prefixes that a network has on all hosts, if it is over hosts.
func wholeOf(n *model.Network) []netip.Prefix {
	switch {
	case n.Fabric != nil:
		return n.Fabric.Whole
	case n.Overlay != nil:
		return prefixes(n.Subnets)
	}
	return nil
}

// fabricName is what this host calls a fabric: as it did, unless that was while the
// network had no name of its own, see nameFabric.
func (d *draft) fabricName(n, old *model.Network) string {
	if old != nil && (!unnamed(old.Name) || old.Name == n.Name) {
		return old.Name
	}
	if o := d.find(n.Name); o != nil && o.ID != n.ID {
		return n.Name + "-" + string(n.ID)[:4]
	}
	return n.Name
}

// unnamed reports whether a name is one that Docker's networks have until Docker says
// what they are called.
func unnamed(name string) bool {
	id, ok := strings.CutPrefix(name, model.OriginDocker+"-")
	return ok && len(id) == model.IDLen && strings.Trim(id, "0123456789abcdef") == ""
}

// overHosts returns a network if it is over hosts, or nil.
func (e *Engine) overHosts(id model.ID) *model.Network {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if n := e.intent.Networks[id]; n != nil && n.Spans() {
		return n
	}
	return nil
}

// nameFabric gives a fabric that Docker made the name that it has there, for all hosts.
// Others keep theirs.
func (e *Engine) nameFabric(ctx context.Context, n *model.Network, name string) error {
	if !unnamed(n.Name) || !e.clustered() || model.CheckName(name) != nil {
		return nil
	}
	config := path.Join(n.Fabric.Key, "config")
	list, err := e.cfg.Cluster.Store.List(ctx, config)
	if err != nil || len(list.Entries) == 0 || list.Entries[0].Key != config {
		return err
	}
	c, err := flannel.ParseConfig(list.Entries[0].Value)
	if err != nil {
		return err
	}
	s, err := sharedOf(n.Fabric.Key, c)
	if err != nil || !unnamed(s.Name) {
		return err // another was faster
	}
	s.Name = name
	for i := range c.Others {
		if c.Others[i].Name == sharedField {
			if c.Others[i].Value, err = json.Marshal(s); err != nil {
				return err
			}
		}
	}
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	_, _, err = e.cfg.Cluster.Store.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: config, Rev: list.Entries[0].Rev}}, Put: []cluster.Put{{Key: config, Value: text}}})
	return err
}
