package engine

import (
	"context"
	"maps"

	"github.com/sealane/sealane/internal/model"
)

// NetworkUpdate is what changes about a network. Keys that are not given stay
// as they are.
type NetworkUpdate struct {
	Options map[string]string // short names or Docker's; "" puts the default back
	Labels  map[string]string // "" removes the label
}

// fixedOptions cannot change while a network exists.
var fixedOptions = []string{"name"}

// UpdateNetwork changes a network in place, and all that is on it, in one
// commit: it happens wholly or not at all, and cuts no flow that the new
// options allow.
func (e *Engine) UpdateNetwork(ctx context.Context, ref string, up NetworkUpdate) (*model.Network, error) {
	e.work.Lock()
	defer e.work.Unlock()
	var made *model.Network
	err := e.retryPorts(func(skip skipPorts) error {
		d := e.draft("network "+ref, "update")
		old, err := d.network(ref)
		if err != nil {
			return err
		}
		if made, err = d.updated(old, up); err == nil {
			err = d.putNetwork(made, skip)
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
func (d *draft) updated(old *model.Network, up NetworkUpdate) (*model.Network, error) {
	n := *old
	kv := old.Options.Map()
	for k, v := range up.Options {
		name := model.OptionName(old.Driver, k)
		for _, fixed := range fixedOptions {
			if name == fixed {
				return nil, d.errorf(model.Invalid, "option %s: cannot change while the network exists", k)
			}
		}
		if name == "" {
			name = k // to be refused with the list of those there are
		}
		model.DropOption(kv, name)
		if v != "" {
			kv[name] = v
		}
	}
	options, err := model.ParseOptions(old.Driver, kv)
	if err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	options.Adopted = old.Options.Adopted
	if options.MTU == 0 {
		options.MTU = old.Options.MTU
	}
	n.Options = options
	n.Labels = maps.Clone(old.Labels)
	for k, v := range up.Labels {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		if n.Labels[k] = v; v == "" {
			delete(n.Labels, k)
		}
	}
	for _, s := range n.Subnets {
		if is6 := s.Prefix.Addr().Is6(); n.TakesGateway(is6) != s.Gateway.IsValid() {
			return nil, d.errorf(model.Invalid, "gateway-mode %s: the network was made for another, with other addresses", n.Mode(is6)).WithHint("make a new network")
		}
	}
	if err := n.Validate(); err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	return &n, nil
}

// putNetwork takes a changed network into the draft, with the sandboxes on it:
// their fragments change with it.
func (d *draft) putNetwork(n *model.Network, skip skipPorts) error {
	d.networks[n.ID] = n
	for _, sb := range d.e.intent.Sandboxes {
		if sb.Endpoint(n.ID) == nil || sb.Exit != nil {
			continue
		}
		if err := d.settlePorts(d.edit(sb), skip); err != nil {
			return err
		}
	}
	return nil
}
