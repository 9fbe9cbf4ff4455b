package engine

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/trace"
)

// FromHost is how Explain is asked for packets of the host's own.
const FromHost = "host"

// Explain follows a packet through what the kernel has now: from a sandbox, or
// FromHost, to a sandbox or an address. One of both may be on another host, on an
// overlay network of this one's too, by its name or address. Nothing is changed.
func (e *Engine) Explain(ctx context.Context, from, to string) (trace.Answer, error) {
	ref := "way from " + from + " to " + to
	addr, err := netip.ParseAddr(to)
	switch {
	case err != nil && to == FromHost:
		return trace.Answer{}, model.Errorf(model.Invalid, ref, "explain", "the host has several addresses: want one of them")
	case err == nil && !addressee(addr):
		return trace.Answer{}, model.Errorf(model.Invalid, ref, "explain", "%s: want the address of one host", addr)
	}
	names := []string{from, to}
	for i, name := range names {
		if i == 0 && name == FromHost || i == 1 && err == nil {
			continue
		}
		if names[i], err = e.named(ctx, name, "explain"); err != nil {
			return trace.Answer{}, err
		}
	}
	return e.explainWay(ctx, ref, names[0], names[1], addr.Unmap())
}

// addressee reports whether an address means one host, the same from everywhere here.
func addressee(a netip.Addr) bool {
	return a.Zone() == "" && a.Unmap().IsGlobalUnicast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// explainWay is Explain for references that mean what they say. to is not read if addr
// is valid.
func (e *Engine) explainWay(ctx context.Context, ref, from, to string, addr netip.Addr) (a trace.Answer, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(ref, "explain")
	q := trace.Question{Addr: addr}
	if from != FromHost {
		if q.From, q.FromMates, err = d.hereOrThere(from); err != nil {
			return a, err
		}
	}
	if !addr.IsValid() {
		if q.To, q.ToMates, err = d.hereOrThere(to); err != nil {
			return a, err
		}
	}
	have, want, err := e.compare(ctx, false)
	if err != nil {
		return a, internal(ref, "explain", err)
	}
	w := trace.World{Have: have, Want: want, Intent: e.intent, Leases: e.heard(), Filters: e.facts.Filters}
	if a, err = trace.Explain(w, q); err != nil {
		return a, &model.Error{Kind: model.Invalid, Ref: ref, Op: "explain", Err: err}
	}
	return a, nil
}

// hereOrThere finds a sandbox of this host, or what one on another host has on overlay
// networks.
func (d *draft) hereOrThere(ref string) (*model.Sandbox, []*model.Far, error) {
	sb, err := d.existing(ref)
	if model.KindOf(err) != model.NotFound {
		return sb, nil, err
	}
	var mates []*model.Far
	for _, n := range d.e.intent.Networks {
		for i := 0; n.Overlay != nil && i < len(n.Overlay.Far); i++ {
			if f := &n.Overlay.Far[i]; meant(f, ref) {
				mates = append(mates, f)
			}
		}
	}
	if len(mates) == 0 {
		return nil, nil, err
	}
	slices.SortFunc(mates, func(a, b *model.Far) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	for _, f := range mates[1:] {
		if f.Host != mates[0].Host {
			return nil, nil, d.errorf(model.Invalid, "sandbox %s: there is one on host %s and one on host %s: want an address", ref, mates[0].Host, f.Host)
		}
	}
	return nil, mates, nil
}

// meant reports whether an endpoint on another host is one of the sandbox that has a
// name, or has an address.
func meant(f *model.Far, ref string) bool {
	a, err := netip.ParseAddr(ref)
	return f.Sandbox == ref || err == nil && slices.Contains(f.Addrs, a.Unmap())
}

// heard is how much what is known of other hosts is worth, by network.
func (e *Engine) heard() map[model.ID]trace.Leases {
	all := map[model.ID]trace.Leases{}
	e.overlays.mu.Lock()
	view := e.overlays.view
	e.overlays.mu.Unlock()
	for id, n := range e.intent.Networks {
		if v, ok := e.FabricOf(n); ok {
			all[id] = trace.Leases{InTouch: v.InTouch, Since: v.Since}
		}
		if n.Overlay != nil && view != nil {
			all[id] = trace.Leases{InTouch: view.InTouch, Since: view.Since}
		}
	}
	return all
}
