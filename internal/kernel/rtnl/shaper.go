package rtnl

import (
	"context"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Our queues and filters bear this number: the handle of the one and the
// priority of the other. What others have put on a device of ours has another
// and stays, unless ours needs its place: a device has one root.
const markTC = groupOurs

// Constants of the kernel that x/sys lacks: linux/pkt_sched.h, linux/rtnetlink.h.
const (
	sizeofTcmsg = 20

	handleShaper = markTC << 16
	parentRoot   = 0xffffffff // TC_H_ROOT

	tbfParms       = 1
	tbfRate64      = 4
	tbfBurst       = 6
	sizeofTbfQopt  = 36
	linkEthernet   = 1 // TC_LINKLAYER_ETHERNET: no table of transmission times
	tbfRate        = 8 // offsets in struct tc_tbf_qopt, which begins with two struct tc_ratespec
	tbfLimit       = 24
	tbfMTU         = 32
	tbfLinkLayerAt = 1
)

// errAbsent is a queue or filter that is not there, or not ours.
var errAbsent = errors.New("no such queue")

// tc appends struct tcmsg.
func (m *message) tc(index int, handle, parent, info uint32) *message {
	m.buf = append(m.buf, unix.AF_UNSPEC, 0, 0, 0)
	m.buf = native.AppendUint32(m.buf, uint32(index))
	m.buf = native.AppendUint32(m.buf, handle)
	m.buf = native.AppendUint32(m.buf, parent)
	m.buf = native.AppendUint32(m.buf, info)
	return m
}

// own returns a device of ours in the host's namespace.
func (p *pass) own(name string) (device, error) {
	d, err := p.host().device(name)
	switch {
	case err != nil || d.planned || d.ours():
		return d, err
	case d.doomed():
		return d, missing("device", name)
	}
	return d, foreign("device " + name)
}

// planShaper queues an op on a shaper. What is at the device's root is changed
// or replaced.
func (p *pass) planShaper(op int, change kstate.Op) error {
	s := change.Object().(kstate.Shaper)
	d, err := p.own(s.Dev)
	switch {
	case change.New == nil && errors.Is(err, kernel.ErrMissing):
		return nil
	case err != nil:
		return err
	case change.New == nil:
		m := newMessage(unix.RTM_DELQDISC, 0).tc(d.index, handleShaper, parentRoot, 0)
		p.host().addForgiving(op, m, errAbsent)
		return nil
	case s.Rate == 0 || s.Burst == 0:
		return errors.New("a rate and a burst are needed")
	}
	m := newMessage(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE).tc(d.index, handleShaper, parentRoot, 0)
	p.host().add(op, m.str(unix.TCA_KIND, "tbf").nest(unix.TCA_OPTIONS, func() { m.bucket(s) }))
	return nil
}

// bucket appends the options of a token bucket. The kernel keeps its depth in
// time and tells it modulo 274 s (tbf_dump in net/sched/sch_tbf.c); the mtu, which
// means something with a peak rate only, it tells as it got it. So that keeps
// the depth in bytes.
func (m *message) bucket(s kstate.Shaper) {
	q := make([]byte, sizeofTbfQopt)
	q[tbfLinkLayerAt] = linkEthernet
	native.PutUint32(q[tbfRate:], uint32(min(s.Rate, math.MaxUint32)))
	native.PutUint32(q[tbfLimit:], s.Queue)
	native.PutUint32(q[tbfMTU:], s.Burst)
	m.attr(tbfParms, q).u32(tbfBurst, s.Burst)
	if s.Rate > math.MaxUint32 {
		m.attr(tbfRate64, native.AppendUint64(nil, s.Rate))
	}
}

// queue is what the kernel reports of a device's root, or of where filters on
// what comes in are.
type queue struct {
	index  int
	ours   bool // a shaper of ours
	hook   bool // filters may be there
	shaper kstate.Shaper
}

// queues lists those of all devices. A kernel without traffic control has none.
func (s *socket) queues(ctx context.Context) ([]queue, error) {
	request := func() *message { return newMessage(unix.RTM_GETQDISC, 0).tc(0, 0, 0, 0) }
	all, err := dump(ctx, s, request, parseQueue)
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	return all, nil
}

// parseQueue reads the body of an RTM_NEWQDISC.
func parseQueue(b []byte) (queue, bool) {
	if len(b) < sizeofTcmsg {
		return queue{}, false
	}
	q := queue{index: int(int32(native.Uint32(b[4:])))}
	ours := native.Uint32(b[8:]) == handleShaper && native.Uint32(b[12:]) == parentRoot
	kind := ""
	attrs(b[sizeofTcmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.TCA_KIND:
			kind = text(v)
		case unix.TCA_OPTIONS:
			if kind == "tbf" {
				attrs(v, q.bucket)
			}
		}
	})
	q.ours, q.hook = ours && kind == "tbf", kind == "clsact" || kind == "ingress"
	return q, q.ours || q.hook
}

// bucket reads the options of a token bucket.
func (q *queue) bucket(typ uint16, v []byte) {
	switch {
	case typ == tbfParms && len(v) >= sizeofTbfQopt:
		q.shaper.Rate = max(q.shaper.Rate, uint64(u32(v[tbfRate:])))
		q.shaper.Queue, q.shaper.Burst = u32(v[tbfLimit:]), u32(v[tbfMTU:])
	case typ == tbfRate64 && len(v) >= 8:
		q.shaper.Rate = native.Uint64(v)
	}
}

// shaping reads the shapers and redirects of our devices.
func (v *view) shaping() error {
	all, err := v.host.sock.queues(v.ctx)
	if err != nil {
		return err
	}
	for _, q := range all {
		d, known := v.devs[q.index]
		switch {
		case !known || !d.ours():
		case q.ours:
			q.shaper.Dev = d.name
			v.objs = append(v.objs, q.shaper)
		case q.hook:
			if err := v.redirect(d); err != nil {
				return err
			}
		}
	}
	return nil
}
