package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/trace"
)

// FromHost is how Explain is asked for packets of the host's own, and FromWorld, before an
// address, for those of somebody beyond its devices.
const (
	FromHost  = "host"
	FromWorld = "world:"
)

// Explain follows a packet through what the kernel has now: from a sandbox, FromHost or
// FromWorld, to a sandbox, an address or a service, each with or without a port; from
// FromWorld also to a port of the host alone, as ":8080". One of both may be on another host, on an overlay network of this one's too, by its name or
// address. backend names the one of a service's backends whose way is told; "": the one
// of which there is most to say. Nothing is changed.
func (e *Engine) Explain(ctx context.Context, from, to, backend string) (trace.Answer, error) {
	w, err := e.journey(ctx, "explain", from, to, backend)
	return w.answer, err
}

// journey is a question that makes sense, and the answer to it.
type journey struct {
	ref    string
	asked  trace.Question
	answer trace.Answer
}

// journey answers for an operation that is named in errors.
func (e *Engine) journey(ctx context.Context, op, from, to, backend string) (journey, error) {
	ref := "way from " + from + " to " + to
	t := parseTarget(to)
	world, err := outsider(from)
	switch {
	case err != nil:
		return journey{}, model.Errorf(model.Invalid, ref, op, "%w", err)
	case t.nowhere() && !world.IsValid():
		return journey{}, model.Errorf(model.Invalid, ref, op, "the host has several addresses: want one of them before the port")
	case t.nowhere():
		return e.explainWay(ctx, ref, op, from, backend, t)
	case !t.addr.IsValid() && t.name == FromHost:
		return journey{}, model.Errorf(model.Invalid, ref, op, "the host has several addresses: want one of them")
	case t.addr.IsValid() && !addressee(t.addr):
		return journey{}, model.Errorf(model.Invalid, ref, op, "%s: want the address of one host", t.addr)
	}
	if from != FromHost && !world.IsValid() {
		if from, err = e.named(ctx, from, op); err != nil {
			return journey{}, err
		}
	}
	if !t.addr.IsValid() && !e.knowsService(t.name) {
		if err := t.unreadPort(); err != nil {
			return journey{}, &model.Error{Kind: model.Invalid, Ref: ref, Op: op, Err: err}
		}
		if t.name, err = e.named(ctx, t.name, op); err != nil {
			return journey{}, err
		}
	}
	return e.explainWay(ctx, ref, op, from, backend, t)
}

// outsider reads FromWorld and an address; the zero address is of something else.
func outsider(from string) (netip.Addr, error) {
	text, ok := strings.CutPrefix(from, FromWorld)
	if !ok {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !addressee(a) {
		return netip.Addr{}, fmt.Errorf("%s: want world:ADDRESS, who asks from beyond the host", from)
	}
	return a.Unmap(), nil
}

// target is where a packet is to go, as it is said.
type target struct {
	name  string
	addr  netip.Addr // valid: instead of the name
	port  uint16     // 0: none
	proto string
}

// nowhere reports whether it is a port of the host alone.
func (t target) nowhere() bool { return t.name == "" && !t.addr.IsValid() }

// parseTarget reads NAME, NAME:PORT, ADDRESS:PORT or [ADDRESS]:PORT, PORT with or without
// a protocol. What a runtime's container is called may have a colon itself.
func parseTarget(text string) target {
	if a, err := netip.ParseAddr(text); err == nil {
		return target{addr: a.Unmap()}
	}
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return target{name: text}
	}
	host := text[:i]
	p, err := model.ParseServicePort(text[i+1:])
	if g, guest, _ := model.ParseGuest(text); err != nil || host == strings.TrimSuffix(containerRef, ":") ||
		guest && (g.Runtime == model.RuntimeNetNS || !strings.Contains(host, ":")) {
		return target{name: text}
	}
	t := target{name: host, port: p.Port, proto: p.Proto}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		t.addr = a.Unmap()
	}
	return t
}

// unreadPort reports a name that can only have been meant with a port: no name of ours
// has a colon, and no runtime is before it.
func (t target) unreadPort() error {
	i := strings.LastIndex(t.name, ":")
	if i < 0 || strings.HasPrefix(t.name, containerRef) || strings.Contains(t.name[:i], ":") && t.name[0] != '[' {
		return nil
	}
	if _, guest, _ := model.ParseGuest(t.name); guest {
		return nil
	}
	_, err := model.ParseServicePort(t.name[i+1:])
	return err
}

// knowsService reports whether some service has a name.
func (e *Engine) knowsService(name string) bool {
	return slices.ContainsFunc(e.Services(), func(s Service) bool { return s.called(name) })
}

// called reports whether a service is asked for by a name: its own, or with its network's
// as containers and commands have it.
func (s Service) called(name string) bool {
	return strings.EqualFold(name, s.Name) || strings.EqualFold(name, s.Name+"."+s.Network.Name) || strings.EqualFold(name, s.Network.Name+"/"+s.Name)
}

// addressee reports whether an address means one host, the same from everywhere here.
func addressee(a netip.Addr) bool {
	return a.Zone() == "" && a.Unmap().IsGlobalUnicast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// explainWay is journey for references that mean what they say.
func (e *Engine) explainWay(ctx context.Context, ref, op, from, backend string, t target) (out journey, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(ref, op)
	q := trace.Question{Addr: t.addr, Port: t.port, Proto: t.proto}
	q.Outside, _ = outsider(from)
	if from != FromHost && !q.Outside.IsValid() {
		if err := d.namesFirst(func() error { q.From, q.FromMates, err = d.hereOrThere(from); return err }); err != nil {
			return out, err
		}
	}
	if err := d.namesFirst(func() error { return d.aim(&q, t, backend) }); err != nil {
		return out, err
	}
	have, want, err := e.compare(ctx, false)
	if err != nil {
		return out, internal(ref, op, err)
	}
	w := trace.World{Have: have, Want: want, Intent: e.intent, Leases: e.heard(), Filters: e.facts.Filters}
	if out.answer, err = trace.Explain(w, q); err != nil {
		return out, &model.Error{Kind: model.Invalid, Ref: ref, Op: op, Err: err}
	}
	out.ref, out.asked = ref, q
	return out, nil
}

// namesFirst has find look for what is called so, be it on another host, before it takes
// the name for the beginning of an ID.
func (d *draft) namesFirst(find func() error) error {
	d.whole = true
	defer func() { d.whole = false }()
	err := find()
	if model.KindOf(err) != model.NotFound {
		return err
	}
	d.whole = false
	if begun := find(); model.KindOf(begun) != model.NotFound {
		return begun
	}
	return err
}

// aim finds what a packet is to go to: a service of a network that its sender is on, then
// a sandbox here or elsewhere, then any service.
func (d *draft) aim(q *trace.Question, t target, backend string) error {
	var err error
	if t.addr.IsValid() || t.name == "" {
		s, _ := d.serviceBy(func(s Service) bool { return slices.Contains(s.VIPs, t.addr) || s.publishes(t) })
		q.Backend, err = d.backendOf(s, backend)
		return err
	}
	s, err := d.serviceFrom(q.From, t.name)
	if s.Service == nil && err == nil {
		q.To, q.ToMates, err = d.hereOrThere(t.name)
	}
	if model.KindOf(err) == model.NotFound {
		if other, twice := d.serviceBy(func(s Service) bool { return s.called(t.name) }); twice != nil || other.Service != nil {
			s, err = other, twice
		} else if e, _ := errors.AsType[*model.Error](err); e != nil && e.Ref == "sandbox "+t.name {
			err = model.Errorf(model.NotFound, e.Ref, e.Op, "no such sandbox, and no such service").WithHint("sealane ps -a and sealane service ls show those there are")
		}
	}
	if err != nil {
		return err
	}
	q.Service = s.Service
	q.Backend, err = d.backendOf(s, backend)
	return err
}

// publishes reports whether a port of the host is one of a service.
func (s Service) publishes(t target) bool {
	return slices.ContainsFunc(s.Publish, func(p model.Publish) bool {
		return p.Port == t.port && p.Proto == t.proto && (len(p.Addrs) == 0 || !t.addr.IsValid() || slices.Contains(p.Addrs, t.addr))
	})
}

// backendOf finds a backend of a service, or of none, by what it is called; "" is none.
func (d *draft) backendOf(s Service, ref string) (model.ID, error) {
	switch {
	case ref == "":
		return "", nil
	case s.Service == nil:
		return "", d.errorf(model.Invalid, "backend %s: only services have backends", ref)
	}
	ids, err := s.backends([]string{ref})
	if e, ok := errors.AsType[*model.Error](err); ok {
		e.Op = d.op
		return "", e
	}
	return ids[0], err
}

// serviceFrom finds the service that a name means for who asks for it, if it does.
func (d *draft) serviceFrom(from *model.Sandbox, name string) (Service, error) {
	if from == nil {
		return Service{}, nil
	}
	if donor := d.e.intent.Sandboxes[from.Donor]; from.Mode == model.ModeShared && donor != nil {
		from = donor
	}
	return d.serviceBy(func(s Service) bool { return from.Endpoint(s.Network.ID) != nil && s.called(name) })
}

// serviceBy finds the one service that is meant, if there is one.
func (d *draft) serviceBy(meant func(Service) bool) (found Service, err error) {
	for _, n := range d.e.intent.Networks {
		for i := 0; n.Overlay != nil && i < len(n.Overlay.Services); i++ {
			s := Service{n.Overlay.Services[i], n}
			switch {
			case !meant(s):
			case found.Service != nil:
				return found, d.errorf(model.Invalid, "service %s: networks %s and %s have one: want NETWORK/NAME", s.Name, min(n.Name, found.Network.Name), max(n.Name, found.Network.Name))
			default:
				found = s
			}
		}
	}
	return found, nil
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
			if f := n.Overlay.Far[i]; meant(f, ref) {
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
	view := e.overlayView()
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
