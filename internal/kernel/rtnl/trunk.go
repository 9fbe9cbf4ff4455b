package rtnl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Constants of linux/if_bridge.h, linux/if_link.h and linux/rtnetlink.h that x/sys
// lacks.
const (
	bridgeFlags    = 0 // u16, IFLA_BRIDGE_FLAGS
	bridgeVLANInfo = 2 // struct bridge_vlan_info: flags and number, both u16

	flagMaster = 1 // a port of the bridge is meant
	flagSelf   = 2 // the bridge itself is

	vlanPVID       = 1 << 1
	vlanUntagged   = 1 << 2
	vlanRangeBegin = 1 << 3
	vlanRangeEnd   = 1 << 4

	bridgeSorting       = 7 // IFLA_BR_VLAN_FILTERING
	extFilterVLANs      = 1 << 2
	firstVLAN, lastVLAN = 1, 4094
)

// span is VLANs from first to last.
type span struct{ first, last int }

// member is what a port, or a bridge itself, is a member of.
type member struct {
	tag  int // what frames without a tag are of; 0: they are dropped
	tags []span
	odd  bool // something that we would not make
}

// usual is what the kernel makes every port.
var usual = member{tag: firstVLAN}

// trunk is a member of all VLANs.
func trunk() member { return member{tag: firstVLAN, tags: []span{{firstVLAN + 1, lastVLAN}}} }

func (m member) equal(o member) bool {
	return m.tag == o.tag && m.odd == o.odd && slices.Equal(m.tags, o.tags)
}

// memberOf reads what a link is to be.
func memberOf(l kstate.Link) (member, error) {
	switch {
	case l.Tag == 0 && l.Tags == "":
		return usual, nil
	case l.Tags == kstate.AllTags:
		return trunk(), nil
	case l.Tags == "":
		return member{tag: l.Tag}, nil
	}
	m := member{tag: l.Tag}
	for part := range strings.SplitSeq(l.Tags, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		first, err1 := strconv.Atoi(low)
		last, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil {
			return m, fmt.Errorf("tags %q: no list of VLANs", l.Tags)
		}
		m.tags = append(m.tags, span{first, last})
	}
	return m, nil
}

// words is the other way round.
func (m member) words() (tag int, tags string) {
	var parts []string
	for _, s := range m.tags {
		part := strconv.Itoa(s.first)
		if s.last != s.first {
			part += "-" + strconv.Itoa(s.last)
		}
		parts = append(parts, part)
	}
	if m.odd {
		parts = append(parts, "and others")
	}
	switch {
	case m.equal(usual):
		return 0, ""
	case m.equal(trunk()):
		return 0, kstate.AllTags
	case m.tag == 0 && len(parts) == 0:
		return 0, kstate.NoTags
	}
	return m.tag, strings.Join(parts, ",")
}

// membership is a message that makes a device of a bridge a member, or ends its
// being one (br_setlink and br_dellink in net/bridge/br_netlink.c). What it is
// not ends without an error.
func membership(typ uint16, index int, port bool, of member) *message {
	m := newMessage(typ, 0).link(unix.AF_BRIDGE, index, 0, 0)
	info := func(flags, vlan int) {
		m.attr(bridgeVLANInfo, native.AppendUint16(native.AppendUint16(nil, uint16(flags)), uint16(vlan)))
	}
	return m.nest(unix.IFLA_AF_SPEC, func() {
		m.u16(bridgeFlags, flagSelf-uint16(bit(port)))
		if of.tag != 0 {
			info(vlanPVID|vlanUntagged, of.tag)
		}
		for _, s := range of.tags {
			if s.first == s.last {
				info(0, s.first)
				continue
			}
			info(vlanRangeBegin, s.first)
			info(vlanRangeEnd, s.last)
		}
	})
}

// join queues that a device of a bridge is what want says, after it was have.
func (s *space) join(op, index int, port bool, have, want member) {
	if have.equal(want) {
		return
	}
	if have.odd {
		have = member{tags: []span{{firstVLAN, lastVLAN}}}
	}
	if have.tag != 0 || len(have.tags) > 0 {
		s.add(op, membership(unix.RTM_DELLINK, index, port, have))
	}
	if want.tag != 0 || len(want.tags) > 0 {
		s.add(op, membership(unix.RTM_SETLINK, index, port, want))
	}
}

// sort queues what a link's bridge is to know about VLANs. fresh: the kernel has
// just made it what it makes every port.
func (p *pass) sort(op int, old, l kstate.Link, index int, fresh bool) error {
	if l.Type != kstate.TypeBridge && l.Master == "" {
		return nil
	}
	have, err := memberOf(old)
	if err != nil {
		return err
	}
	if fresh || l.Master != old.Master {
		have = usual
	}
	want, err := memberOf(l)
	if err != nil {
		return err
	}
	p.host().join(op, index, l.Type != kstate.TypeBridge, have, want)
	return nil
}

// sorting is a message that makes a bridge sort frames by VLAN, or not. A kernel
// without CONFIG_BRIDGE_VLAN_FILTERING says nothing, but has no members either.
func sorting(index int, on bool) *message {
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, index, 0, 0)
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, string(kstate.TypeBridge))
		m.nest(unix.IFLA_INFO_DATA, func() { m.u8(bridgeSorting, bit(on)) })
	})
}

// bridgeData reads IFLA_INFO_DATA of a bridge.
func (d *device) bridgeData(b []byte) {
	if d.kind != string(kstate.TypeBridge) {
		return
	}
	attrs(b, func(typ uint16, v []byte) {
		if typ == bridgeSorting {
			d.sorting = u8(v) != 0
		}
	})
}

// indexed is the membership of one device.
type indexed struct {
	index int
	member
}

// members asks what the ports of all bridges, and the bridges, are members of.
func (s *socket) members(ctx context.Context) (map[int]member, error) {
	request := func() *message {
		return newMessage(unix.RTM_GETLINK, 0).link(unix.AF_BRIDGE, 0, 0, 0).u32(unix.IFLA_EXT_MASK, extFilterVLANs)
	}
	all, err := dump(ctx, s, request, parseMember)
	if err != nil {
		return nil, fmt.Errorf("list VLANs: %w", err)
	}
	out := make(map[int]member, len(all))
	for _, m := range all {
		out[m.index] = m.member
	}
	return out, nil
}

// parseMember reads the body of an RTM_NEWLINK of bridges.
func parseMember(b []byte) (indexed, bool) {
	if len(b) < unix.SizeofIfInfomsg || b[0] != unix.AF_BRIDGE {
		return indexed{}, false
	}
	m, found := indexed{index: int(int32(native.Uint32(b[4:])))}, false
	attrs(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		if typ != unix.IFLA_AF_SPEC {
			return
		}
		begin := 0
		attrs(v, func(typ uint16, v []byte) {
			if typ != bridgeVLANInfo || len(v) < 4 {
				return
			}
			found = true
			m.vlan(native.Uint16(v), int(native.Uint16(v[2:])), &begin)
		})
	})
	return m, found
}

// vlan adds one bridge_vlan_info. A range is two, and begin what it began with.
func (m *member) vlan(flags uint16, vlan int, begin *int) {
	switch {
	case flags&vlanPVID != 0 && flags&vlanUntagged != 0:
		m.tag = vlan
	case flags&(vlanPVID|vlanUntagged) != 0:
		m.odd = true
	case flags&vlanRangeBegin != 0:
		*begin = vlan
	case flags&vlanRangeEnd != 0:
		m.tags = append(m.tags, span{*begin, vlan})
	default:
		m.tags = append(m.tags, span{vlan, vlan})
	}
}

// sorted gives the devices of bridges that sort what they are members of. Where no
// bridge does, nobody is asked.
func (v *view) sorted() error {
	var all map[int]member
	for i, d := range v.devs {
		bridge := d
		if d.master != 0 {
			bridge = v.devs[d.master]
		}
		if !bridge.sorting {
			continue
		}
		if all == nil {
			var err error
			if all, err = v.host.sock.members(v.ctx); err != nil {
				return err
			}
		}
		d.tag, d.tags = all[i].words()
		v.devs[i] = d
	}
	for _, d := range v.devs {
		if d.sorting && !d.doomed() {
			v.trunks(d)
		}
	}
	return nil
}

// trunks adds the object of a bridge that sorts.
func (v *view) trunks(bridge device) {
	o := kstate.Trunk{Bridge: bridge.name}
	_, noted := v.noted[sortEntry(bridge.name)]
	if o.Other = !noted && !bridge.ours(); !o.Other {
		v.c.sorters.Store(bridge.index, true)
		for _, d := range v.devs {
			if d.carriesAll(bridge) && d.tags != kstate.AllTags {
				return
			}
		}
	}
	v.objs = append(v.objs, o)
}

// carriesAll reports whether Trunk is about a device: a port that is not ours, or
// somebody's bridge itself.
func (d device) carriesAll(bridge device) bool {
	return d.master == bridge.index && !d.ours() && !d.doomed() || d.index == bridge.index && !bridge.ours()
}

// trunks reports whether a device is a port that Trunk is about, as Watch hears of it.
func (c *Conn) trunks(d device) bool {
	_, is := c.sorters.Load(d.master)
	return is && d.master != 0
}

// sortEntry is the journal's key of a bridge that did not sort. Its value is which
// boot that was in.
func sortEntry(bridge string) string { return "vlans/" + bridge }

// planTrunk queues an op on the ports of others.
func (p *pass) planTrunk(op int, change kstate.Op) error {
	t := change.Object().(kstate.Trunk)
	bridge, err := p.host().device(t.Bridge)
	if change.New == nil && errors.Is(err, kernel.ErrMissing) {
		p.undone[op] = sortEntry(t.Bridge)
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := p.c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, noted := entries[sortEntry(bridge.name)]
	switch {
	case change.New == nil:
		return p.endTrunk(op, bridge, noted)
	case bridge.ours() || noted || bridge.planned:
	case bridge.sorting:
		return nil
	default:
		if err := p.c.journal.Put(sortEntry(bridge.name), bootID()); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		p.fresh[op] = sortEntry(bridge.name)
	}
	if err := p.joinOthers(op, bridge, trunk()); err != nil {
		return err
	}
	if !bridge.ours() && !bridge.sorting {
		p.host().add(op, sorting(bridge.index, true))
	}
	return nil
}

// endTrunk queues that a bridge is as it was. With one of ours its ports go.
func (p *pass) endTrunk(op int, bridge device, noted bool) error {
	if bridge.ours() || !noted {
		return nil
	}
	p.undone[op] = sortEntry(bridge.name)
	p.host().add(op, sorting(bridge.index, false))
	return p.joinOthers(op, bridge, usual)
}

// joinOthers queues what the ports of others shall be members of.
func (p *pass) joinOthers(op int, bridge device, want member) error {
	ctx := context.Background()
	if bridge.planned {
		return nil
	}
	devs, err := p.host().sock.devices(ctx)
	if err != nil {
		return err
	}
	have, err := p.host().sock.members(ctx)
	if err != nil {
		return err
	}
	for _, d := range devs {
		if d.carriesAll(bridge) {
			p.c.recent.touch(d.index)
			p.host().join(op, d.index, d.index != bridge.index, have[d.index], want)
		}
	}
	return nil
}

// sweepSorting erases the journal's entry of a bridge that sorts since another
// boot, or does not.
func (p *pass) sweepSorting(key, boot string) error {
	name, ok := strings.CutPrefix(key, sortEntry(""))
	if !ok {
		return nil
	}
	d, err := p.host().device(name)
	if err != nil && !errors.Is(err, kernel.ErrMissing) || err == nil && d.sorting && boot == bootID() {
		return err
	}
	return p.c.journal.Erase(key)
}
