package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/model"
)

// NetworkUpdate is what changes about a network. Keys that are not given stay
// as they are.
type NetworkUpdate struct {
	Options map[string]string // short names or Docker's; "" puts the default back
	Labels  map[string]string
	// DropLabels are the labels that go.
	DropLabels []string
}

// fixedOptions cannot change while a network exists.
var fixedOptions = []string{"name", "ipam", "parent", "vlan", "mode", "ipvlan-flag", "host-leg", "datapath"}

// UpdateNetwork changes a network in place, and all that is on it, in one
// commit: it happens wholly or not at all, and cuts no flow that the new
// options allow.
func (e *Engine) UpdateNetwork(ctx context.Context, ref string, up NetworkUpdate) (_ *model.Network, err error) {
	defer e.timed("network_update")(&err)
	e.work.Lock()
	defer e.work.Unlock()
	var made *model.Network
	err = e.retryPorts(func(skip skipPorts) error {
		d := e.draft("network "+ref, "update")
		old, err := d.network(ref)
		if err != nil {
			return err
		}
		if old.Spans() {
			return d.errorf(model.Unsupported, "driver %s: what all hosts share is not changed on one", old.Driver).WithHint("remove it and make it anew")
		}
		if made, err = d.updated(ctx, old, up); err == nil {
			err = d.putNetwork(ctx, made, skip)
		}
		if err != nil {
			d.discard()
			return err
		}
		return d.commit(ctx)
	})
	return made, err
}

// updated returns a network as it will be.
func (d *draft) updated(ctx context.Context, old *model.Network, up NetworkUpdate) (*model.Network, error) {
	n := *old
	kv := old.OptionMap()
	if err := d.changeOptions(old.Driver, kv, up.Options); err != nil {
		return nil, err
	}
	modesThere(old, kv, up.Options)
	options, err := model.ParseOptions(old.Driver, kv)
	if err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	options.Adopted = old.Options.Adopted
	if options.MTU == 0 {
		if options.MTU, err = d.defaultMTU(ctx, old); err != nil {
			return nil, err
		}
	}
	n.Options = options
	if n.Wired() != old.Wired() || n.Options.Adopted && n.Sorts() != old.Sorts() {
		return nil, d.errorf(model.Invalid, "option trunks: the network was made without VLANs, or for them").WithHint("make a new network")
	}
	if n.Sorts() && !old.Sorts() {
		if err := d.can(feature.Sorting); err != nil {
			return nil, d.sortsNot(n.Options.Trunks, err)
		}
	}
	n.Labels = relabeled(old.Labels, up.Labels, up.DropLabels)
	for _, s := range n.Subnets {
		if is6 := s.Prefix.Addr().Is6(); n.TakesGateway(is6) != old.TakesGateway(is6) {
			return nil, d.errorf(model.Invalid, "gateway-mode %s: the network was made for another, with other addresses", n.Mode(is6)).WithHint("make a new network")
		}
	}
	if err := n.Validate(); err != nil {
		return nil, d.errorf(model.Invalid, "%w", errors.Unwrap(err)) // without its words of a creation
	}
	return &n, d.checkSources(ctx, &n, old.Options)
}

// modesThere drops the gateway mode of a family that the network does not have, and
// that gateway-mode gave it, when that of the other one changes.
func modesThere(n *model.Network, kv, changes map[string]string) {
	for is6, names := range map[bool][2]string{false: {"gateway-mode-ipv4", "gateway-mode-ipv6"}, true: {"gateway-mode-ipv6", "gateway-mode-ipv4"}} {
		asked := slices.ContainsFunc(slices.Collect(maps.Keys(changes)), func(k string) bool { return model.OptionName(n.Driver, k) == names[0] })
		if _, has := n.Subnet(is6); !has && !asked && kv[names[0]] != kv[names[1]] {
			delete(kv, names[0])
		}
	}
}

// defaultMTU is what a network gets that asks for none: that of an adopted
// bridge stays as it is.
func (d *draft) defaultMTU(ctx context.Context, n *model.Network) (int, error) {
	switch {
	case n.OnParent():
		return d.defaultParentMTU(ctx, n)
	case n.Options.Adopted:
		return n.Options.MTU, nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return 0, internal(d.ref, d.op, err)
	}
	return view.mtu(), nil
}

// changeOptions changes kv, options by their short names. Docker has two names
// for what packets leave with, one of each family.
func (d *draft) changeOptions(driver string, kv, changes map[string]string) error {
	given := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(changes)) {
		name := cmp.Or(model.OptionName(driver, k), k) // what is not known is refused with the list of those there are
		first, twice := given[name]
		switch {
		case slices.Contains(fixedOptions, name):
			return d.errorf(model.Invalid, "option %s: cannot change while the network exists", k)
		case twice && name == "source-ip" && kv[name] != "" && changes[k] != "":
			kv[name] += "," + changes[k]
			continue
		case twice:
			return d.errorf(model.Invalid, "option %s: given twice, as %s and %s", name, first, k)
		}
		given[name] = k
		model.DropOption(kv, name)
		if changes[k] != "" || model.OptionName(driver, k) == "" { // not known: to be refused
			kv[name] = changes[k]
		}
	}
	return nil
}

// putNetwork takes a changed network into the draft, with the sandboxes on it:
// their fragments change with it.
func (d *draft) putNetwork(ctx context.Context, n *model.Network, skip skipPorts) error {
	d.networks[n.ID] = n
	for _, sb := range d.e.intent.Sandboxes {
		if sb.Endpoint(n.ID) == nil || sb.Exit != nil {
			continue
		}
		if err := d.settlePorts(ctx, d.edit(sb), skip); err != nil {
			return err
		}
	}
	return nil
}

// relabeled are labels with some set and others gone.
func relabeled(labels, more map[string]string, less []string) map[string]string {
	out := maps.Clone(labels)
	if out == nil && len(more) > 0 {
		out = map[string]string{}
	}
	maps.Copy(out, more)
	for _, k := range less {
		delete(out, k)
	}
	return out
}
