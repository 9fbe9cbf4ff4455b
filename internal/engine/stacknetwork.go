package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// network plans for one network: it is made, or changed where it can.
func (p *stackPlan) network(spec NetworkSpec) error {
	spec.Labels, spec.Driver = p.labels(spec.Labels), cmp.Or(spec.Driver, model.DriverBridge)
	n := p.networks[spec.Name]
	if n == nil {
		p.fresh = append(p.fresh, spec)
		p.step("+ network "+spec.Name+": "+newNetwork(spec), func(ctx context.Context) error {
			_, err := p.e.CreateNetwork(ctx, spec)
			return err
		})
		return nil
	}
	if err := p.owned(n.Ref(), n.Labels, "external: true takes it as it is; name: gives the stack's another name"); err != nil {
		return err
	}
	if err := stays(n, spec); err != nil {
		return err.WithHint("sealane network rm %s, once nobody is on it, and apply again; or give the new one another name", n.Name)
	}
	up := NetworkUpdate{Options: optionChange(n, spec)}
	up.Labels, up.DropLabels = labelChange(n.Labels, spec.Labels)
	if len(up.Options)+len(up.Labels)+len(up.DropLabels) == 0 {
		return nil
	}
	do := func(ctx context.Context) error { _, err := p.e.UpdateNetwork(ctx, string(n.ID), up); return err }
	if n.Overlay != nil {
		do = func(ctx context.Context) error { return p.e.relabel(ctx, n, spec.Labels) }
	}
	p.step("~ network "+n.Name+": "+networkChange(up), do)
	return nil
}

// newNetwork is what there is to say of a network that is to be made.
func newNetwork(spec NetworkSpec) string {
	words := []string{"driver " + spec.Driver}
	for _, s := range spec.Subnets {
		words = append(words, "subnet "+s.Prefix.String())
	}
	if spec.Internal {
		words = append(words, "internal")
	}
	labels := maps.Clone(spec.Labels)
	delete(labels, model.StackLabel)
	if text := networkChange(NetworkUpdate{Options: spec.Options, Labels: labels}); text != "" {
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// networkChange is a change of a network in a line.
func networkChange(up NetworkUpdate) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(up.Options)) {
		words = append(words, "option "+k+"="+up.Options[k])
	}
	if text := labelWords(up.Labels, up.DropLabels); text != "" {
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// stays reports what differs about a network and cannot change.
func stays(n *model.Network, spec NetworkSpec) *model.Error {
	d := &draft{ref: n.Ref(), op: "apply"}
	plain := spec
	plain.Options = nil
	if err := d.same(n, plain); err != nil {
		return asError(err)
	}
	if n.Internal && !spec.Internal {
		return d.errorf(model.Conflict, "is there with internal true, not false")
	}
	for _, s := range n.Subnets {
		is6 := s.Prefix.Addr().Is6()
		given := slices.ContainsFunc(spec.Subnets, func(o model.Subnet) bool { return o.Prefix.Addr().Is6() == is6 })
		if !given && !n.Options.Adopted && (is6 && !spec.IPv6 || !is6 && spec.NoIPv4) {
			return d.errorf(model.Conflict, "is there with subnet %s, not without one of that family", s.Prefix)
		}
	}
	want, err := model.ParseOptions(n.Driver, spec.Options)
	if err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	for _, k := range slices.Sorted(maps.Keys(optionChange(n, spec))) {
		if n.Spans() || slices.Contains(fixedOptions, k) {
			return d.errorf(model.Conflict, "option %s is %s and cannot be %s", k, word(optionsOf(n), k), word(want, k))
		}
	}
	if n.Overlay != nil {
		made := optionsOf(n)
		if want.Backend != made.Backend {
			return d.errorf(model.Conflict, "is there with VNI %d at UDP port %d, as it was made", n.Overlay.VNI, n.Overlay.Port)
		}
	}
	return nil
}

// asError is an error of the engine's.
func asError(err error) *model.Error {
	if e, ok := err.(*model.Error); ok {
		return e
	}
	return model.Errorf(model.KindOf(err), "", "", "%w", err)
}

// optionsOf are the options that a network was made with: those of an overlay network are
// as somebody said them, of others what they came to.
func optionsOf(n *model.Network) model.Options {
	if n.Overlay != nil {
		if o, err := model.ParseOptions(n.Driver, n.Overlay.Options); err == nil {
			return o
		}
	}
	return n.Options
}

// word is an option's value for people.
func word(o model.Options, name string) string { return cmp.Or(o.Map()[name], "the default") }

// settledOptions are those that are chosen when nobody says them.
var settledOptions = []string{"mtu", "name", "datapath"}

// optionChange lists the options that a network is to have otherwise, "" for the default.
func optionChange(n *model.Network, spec NetworkSpec) map[string]string {
	options, err := model.ParseOptions(n.Driver, spec.Options)
	if err != nil {
		return nil // stays says so
	}
	have, want, out := optionsOf(n).Map(), options.Map(), map[string]string{}
	for _, m := range []map[string]string{have, want} {
		for k := range m {
			chosen := n.Overlay == nil && want[k] == "" && slices.Contains(settledOptions, k)
			if have[k] != want[k] && !chosen {
				out[k] = want[k]
			}
		}
	}
	return out
}

// relabel gives an overlay network other labels, on all hosts, and waits until this one
// has heard of it.
func (e *Engine) relabel(ctx context.Context, n *model.Network, labels map[string]string) error {
	dir := e.directory()
	if dir == nil {
		return notClustered(n.Ref(), "apply")
	}
	err := dir.Update(ctx, n.ID, func(o *overlay.Network) error { o.Labels = labels; return nil })
	if err != nil {
		return err
	}
	e.settled(ctx, func() bool {
		now, err := e.Network(string(n.ID))
		return err == nil && maps.Equal(now.Labels, labels)
	})
	return nil
}
