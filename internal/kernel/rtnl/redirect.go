package rtnl

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Constants of the kernel that x/sys lacks: linux/pkt_sched.h, linux/pkt_cls.h,
// linux/tc_act/tc_mirred.h.
const (
	handleHook  = 0xffff0000 // of clsact and ingress
	parentHook  = 0xfffffff1 // TC_H_CLSACT
	parentEntry = 0xfffffff2 // what comes in, with both

	u32Sel          = 5
	u32Act          = 7
	u32Terminal     = 1
	sizeofU32Sel    = 16
	actKind         = 1
	actOptions      = 2
	mirredParms     = 2
	mirredOut       = 1 // TCA_EGRESS_REDIR: out by the other device, and not further here
	sizeofMirred    = 28
	mirredVerdictAt = 8
	mirredHowAt     = 20
	mirredToAt      = 24
	verdictStolen   = 4 // TC_ACT_STOLEN
)

// infoFilter is a filter's tcm_info: its priority, and that it is for frames of
// all protocols.
func infoFilter() uint32 {
	be := []byte{byte(unix.ETH_P_ALL >> 8), byte(unix.ETH_P_ALL & 0xff)}
	return markTC<<16 | uint32(native.Uint16(be))
}

// planRedirect queues an op on a redirect: a filter without conditions. It is
// made anew when it changes. Where filters are at all stays: others may use it.
func (p *pass) planRedirect(op int, change kstate.Op) error {
	r := change.Object().(kstate.Redirect)
	d, err := p.own(r.Dev)
	if change.New == nil && errors.Is(err, kernel.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	host := p.host()
	remove := newMessage(unix.RTM_DELTFILTER, 0).tc(d.index, 0, parentEntry, infoFilter())
	if change.New == nil {
		host.addForgiving(op, remove, errAbsent)
		return nil
	}
	to, err := p.own(r.To)
	if err != nil {
		return err
	}
	hook := newMessage(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL).tc(d.index, handleHook, parentHook, 0)
	host.addForgiving(op, hook.str(unix.TCA_KIND, "clsact"), kernel.ErrInUse)
	if !d.planned {
		host.addForgiving(op, remove, errAbsent)
	}
	m := newMessage(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL).tc(d.index, 0, parentEntry, infoFilter())
	host.add(op, m.str(unix.TCA_KIND, "u32").nest(unix.TCA_OPTIONS, func() { m.outBy(to.index) }))
	return nil
}

// outBy appends the options of a u32 filter that sends all frames out by another
// device. That filter is older than those made for the purpose, and in more
// kernels.
func (m *message) outBy(index int) {
	sel := make([]byte, sizeofU32Sel)
	sel[0] = u32Terminal
	m.attr(u32Sel, sel)
	mirred := make([]byte, sizeofMirred)
	native.PutUint32(mirred[mirredVerdictAt:], verdictStolen)
	native.PutUint32(mirred[mirredHowAt:], mirredOut)
	native.PutUint32(mirred[mirredToAt:], uint32(index))
	m.nest(u32Act, func() {
		m.nest(1, func() {
			m.str(actKind, "mirred")
			m.nest(actOptions, func() { m.attr(mirredParms, mirred) })
		})
	})
}

// filter is one on what comes in, of our priority: where it sends all frames, or
// 0 if it does anything else.
type filter struct{ to int }

// filters lists those of our priority.
func (s *socket) filters(ctx context.Context, index int) ([]filter, error) {
	request := func() *message { return newMessage(unix.RTM_GETTFILTER, 0).tc(index, 0, parentEntry, infoFilter()) }
	all, err := dump(ctx, s, request, parseFilter)
	if err != nil && !errors.Is(err, kernel.ErrMissing) {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	return all, nil
}

// parseFilter reads the body of an RTM_NEWTFILTER. A u32 filter's own table, and
// what the kernel says of the priority as a whole, are no filters.
func parseFilter(b []byte) (filter, bool) {
	if len(b) < sizeofTcmsg || native.Uint32(b[16:])>>16 != markTC {
		return filter{}, false
	}
	var f filter
	kind, real, plain := "", native.Uint32(b[8:]) != 0, false
	attrs(b[sizeofTcmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.TCA_KIND:
			kind = text(v)
		case unix.TCA_OPTIONS:
			if kind == "u32" {
				f.to, real, plain = parseU32(v)
			}
		}
	})
	if !plain {
		f.to = 0
	}
	return f, real
}

// parseU32 reads the options of a u32 filter: whether it is one, and one
// without conditions.
func parseU32(b []byte) (to int, real, plain bool) {
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case u32Sel:
			real = true
			plain = len(v) == sizeofU32Sel && v[0] == u32Terminal && v[2] == 0
		case u32Act:
			to = parseActions(v)
		}
	})
	return to, real, plain
}

// parseActions returns where the one action sends frames, or 0.
func parseActions(b []byte) (to int) {
	n := 0
	attrs(b, func(_ uint16, v []byte) {
		n++
		kind := ""
		attrs(v, func(typ uint16, v []byte) {
			switch {
			case typ == actKind:
				kind = text(v)
			case typ == actOptions && kind == "mirred":
				to = parseMirred(v)
			}
		})
	})
	if n != 1 {
		return 0
	}
	return to
}

func parseMirred(b []byte) (to int) {
	attrs(b, func(typ uint16, v []byte) {
		if typ == mirredParms && len(v) >= sizeofMirred && u32(v[mirredHowAt:]) == mirredOut && u32(v[mirredVerdictAt:]) == verdictStolen {
			to = int(u32(v[mirredToAt:]))
		}
	})
	return to
}

// redirect reads that of a device of ours, if it has one.
func (v *view) redirect(d device) error {
	all, err := v.host.sock.filters(v.ctx, d.index)
	if err != nil || len(all) == 0 {
		return err
	}
	r := kstate.Redirect{Dev: d.name}
	if to := v.devs[all[0].to]; len(all) == 1 && to.ours() {
		r.To = to.name
	}
	v.objs = append(v.objs, r)
	return nil
}
