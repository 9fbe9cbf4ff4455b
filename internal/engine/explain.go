package engine

import (
	"context"
	"net/netip"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/trace"
)

// FromHost is how Explain is asked for packets of the host's own.
const FromHost = "host"

// Explain follows a packet through what the kernel has now: from a sandbox, or
// FromHost, to a sandbox or an address. Nothing is changed.
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
		if q.From, err = d.existing(from); err != nil {
			return a, err
		}
	}
	if !addr.IsValid() {
		if q.To, err = d.existing(to); err != nil {
			return a, err
		}
	}
	have, want, err := e.compare(ctx, false)
	if err != nil {
		return a, internal(ref, "explain", err)
	}
	w := trace.World{Have: have, Want: want, Intent: e.intent, Leases: map[model.ID]trace.Leases{}, Filters: e.facts.Filters}
	for id, n := range e.intent.Networks {
		if v, ok := e.FabricOf(n); ok {
			w.Leases[id] = trace.Leases{InTouch: v.InTouch, Since: v.Since}
		}
	}
	if a, err = trace.Explain(w, q); err != nil {
		return a, &model.Error{Kind: model.Invalid, Ref: ref, Op: "explain", Err: err}
	}
	return a, nil
}
