package engine

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/trace"
)

// How long an answer to a probe may be waited for.
const (
	TraceDefault = 2 * time.Second
	TraceMin     = 100 * time.Millisecond
	TraceMax     = 30 * time.Second
)

// Trace sends one packet from a sandbox, or FromHost, to what Explain takes as its
// destination, and says what the kernel did with it and with the answer: a connection of
// TCP that is closed again, a datagram without content, or without a port an echo request.
// It is sent to where Explain says that it goes. One is followed at a time. Nothing stays.
func (e *Engine) Trace(ctx context.Context, from, to string, wait time.Duration) (trace.Followed, error) {
	ref := "way from " + from + " to " + to
	if wait == 0 {
		wait = TraceDefault
	}
	if wait < TraceMin || wait > TraceMax {
		return trace.Followed{}, model.Errorf(model.Invalid, ref, "trace", "timeout %s: want %s to %s", wait, TraceMin, TraceMax)
	}
	if world, err := outsider(from); err == nil && world.IsValid() {
		return trace.Followed{}, model.Errorf(model.Invalid, ref, "trace", "what somebody beyond the host sends cannot be sent from here").WithHint("sealane explain says which way it would go")
	}
	if e.cfg.Follow == nil {
		return trace.Followed{}, model.Errorf(model.Unsupported, ref, "trace", "this daemon follows no packets")
	}
	w, err := e.journey(ctx, "trace", from, to, "")
	if err != nil {
		return trace.Followed{}, err
	}
	s, err := e.scene(w)
	if err != nil {
		return trace.Followed{}, model.Errorf(model.Invalid, ref, "trace", "%w", err)
	}
	return e.follow(ctx, ref, s, wait)
}

// follow sends the probe.
func (e *Engine) follow(ctx context.Context, ref string, s trace.Scene, wait time.Duration) (trace.Followed, error) {
	select {
	case e.tracing <- struct{}{}:
		defer func() { <-e.tracing }()
	case <-ctx.Done():
		return trace.Followed{}, model.Errorf(model.Conflict, ref, "trace", "others are followed, one after the other: ask again")
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t, err := e.cfg.Follow(ctx, s.Probe)
	switch {
	case errors.Is(err, kernel.ErrUnsupported):
		return trace.Followed{}, model.Errorf(model.Unsupported, ref, "trace", "tables that go with their owner, which nftables has since Linux 5.12: %w", err)
	case errors.Is(err, kernel.ErrNoNamespace):
		return trace.Followed{}, &model.Error{Kind: model.Gone, Ref: ref, Op: "trace", Err: err}
	case err != nil:
		return trace.Followed{}, &model.Error{Kind: model.Internal, Ref: ref, Op: "trace", Err: err}
	}
	return trace.Follow(s, t), nil
}

// scene is what a probe is to be, by what was explained.
func (e *Engine) scene(w journey) (s trace.Scene, err error) {
	q, there := w.asked, w.answer.There
	switch {
	case len(q.FromMates) > 0:
		return s, errors.New("its sender is on another host: ask there")
	case !there.Dst.IsValid():
		return s, errors.New("nowhere to send it: " + there.Why)
	case q.Proto != "" && q.Proto != "tcp" && q.Proto != "udp":
		return s, errors.New(q.Proto + ": want tcp or udp")
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	s = trace.Scene{Why: there.Why, Filters: e.facts.Filters, Helpless: compile.Helpless(e.facts), Names: map[kstate.NS]string{}}
	if b := w.answer.Back; s.Why == "" && b != nil {
		s.Why = b.Why
	}
	s.Probe = probeOf(q, there.Dst)
	if q.From != nil {
		s.Probe.From = e.spaceOf(q.From, &s)
	}
	near := cmp.Or(q.To, e.holding(there.Dst))
	if s.Beyond = near == nil; s.Beyond {
		near = e.publishing(s.Probe)
	}
	if near != nil && near.Live() {
		s.Probe.Near = e.spaceOf(near, &s)
	}
	return s, nil
}

// probeOf is the packet for a question, to an address.
func probeOf(q trace.Question, dst netip.Addr) kernel.Probe {
	switch {
	case q.Port != 0:
		return kernel.Probe{Proto: q.Proto, To: netip.AddrPortFrom(dst, q.Port)}
	case q.Service != nil && len(q.Service.Ports) > 0:
		p := q.Service.Ports[0]
		return kernel.Probe{Proto: p.Proto, To: netip.AddrPortFrom(dst, p.Port)}
	}
	return kernel.Probe{Proto: "icmp", To: netip.AddrPortFrom(dst, 0)}
}

// publishing returns the sandbox that a port of the host belongs to, or nil. The caller
// holds mu.
func (e *Engine) publishing(p kernel.Probe) *model.Sandbox {
	e.portsMu.RLock()
	defer e.portsMu.RUnlock()
	owner, _, _ := e.ports.Lookup(p.Proto, p.To)
	return e.intent.Sandboxes[model.ID(owner)]
}

// spaceOf returns a sandbox's namespace, and notes its name. The caller holds mu.
func (e *Engine) spaceOf(sb *model.Sandbox, s *trace.Scene) kstate.NS {
	if donor := e.intent.Sandboxes[sb.Donor]; sb.Mode == model.ModeShared && donor != nil {
		sb = donor
	}
	ns := compile.NS(sb)
	if !ns.IsHost() {
		s.Names[ns] = sb.Ref()
	}
	return ns
}

// holding returns the sandbox here that an address is of, if it runs. The caller holds mu.
func (e *Engine) holding(a netip.Addr) *model.Sandbox {
	for _, sb := range e.intent.Sandboxes {
		for i := range sb.Endpoints {
			ep := &sb.Endpoints[i]
			if sb.Live() && slices.ContainsFunc(ep.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return sb
			}
		}
	}
	return nil
}
