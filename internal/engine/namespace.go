package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// settleMode decides the namespace and refuses what a mode cannot have.
func (d *draft) settleMode(ctx context.Context, sb *model.Sandbox, spec SandboxSpec) error {
	if (sb.Mode == model.ModeHost || sb.Mode == model.ModeShared) && (len(spec.Networks) > 0 || len(spec.Ports) > 0 || spec.PublishAll) {
		return d.errorf(model.Invalid, "a sandbox in the %s's namespace has no networks and ports of its own",
			map[model.Mode]string{model.ModeHost: "host", model.ModeShared: "other sandbox"}[sb.Mode])
	}
	if what := onlyOwn(sb); sb.Mode != model.ModeOwn && what != "" {
		return d.errorf(model.Invalid, "%s are for a namespace of its own", what)
	}
	switch sb.Mode {
	case model.ModeOwn:
		sb.NetNS = path.Join(d.e.cfg.RunDir, "netns", string(sb.ID))
	case model.ModeHost:
	case model.ModeRuntime:
		sb.NetNS = spec.NetNS
	case model.ModeShared:
		donor, err := d.subject(ctx, spec.donor, false)
		if err != nil {
			return err
		}
		if donor.Exit != nil {
			return d.errorf(model.Gone, "sandbox %s: has ended", donor.Name)
		}
		if donor.Away() {
			return d.errorf(model.Gone, "sandbox %s: %s does not run", donor.Name, donor.Guest)
		}
		sb.Donor, sb.NetNS, sb.Inode = donor.ID, donor.NetNS, donor.Inode
		if donor.Mode == model.ModeShared {
			sb.Donor = donor.Donor
		}
	case model.ModeOther:
		if err := d.settleForeign(ctx, sb, spec.NetNS); err != nil {
			return err
		}
		if old := d.standsFor(sb.NetNS, sb.Inode); old != nil {
			return d.errorf(model.Conflict, "%s: is the namespace of sandbox %s", sb.NetNS, old.Name)
		}
	default:
		return d.errorf(model.Invalid, "mode %q: not known", sb.Mode)
	}
	return nil
}

// onlyOwn names the first thing a sandbox asks for that only a namespace of
// ours has.
func onlyOwn(sb *model.Sandbox) string {
	switch {
	case len(sb.Sysctls) > 0:
		return "sysctls"
	case len(sb.Links) > 0:
		return "links"
	case len(sb.Hosts) > 0:
		return "additional hosts"
	case sb.Hostname != "", sb.Domain != "":
		return "host names"
	case len(sb.DNS.Servers)+len(sb.DNS.Search)+len(sb.DNS.Options) > 0:
		return "DNS settings"
	}
	return ""
}

// settleForeign looks at a namespace that was given by path.
func (d *draft) settleForeign(ctx context.Context, sb *model.Sandbox, netns string) error {
	there, err := d.look(ctx, netns)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	host, err := d.e.ownInode(ctx)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	switch {
	case there == nil:
		return d.errorf(model.NotFound, "%s: not a network namespace", netns).
			WithHint("want a path like /run/netns/NAME or /proc/PID/ns/net")
	case there.inode != 0 && there.inode == host:
		return d.errorf(model.Invalid, "%s: is the host's own network namespace", netns)
	}
	sb.NetNS, sb.Inode = netns, there.inode
	sb.Routed4, sb.Routed6 = there.routed4, there.routed6
	return nil
}

// space is what a namespace that was given to us holds already.
type space struct {
	inode            uint64
	names            map[string]bool // of its interfaces
	theirs           map[string]bool // those of others
	ours             bool            // it has an address or a route that bears our mark
	routed4, routed6 bool            // it has a default route of its own
	subnets          []subnet        // of others' addresses and routes in it
}

// subnet is one that a device leads to.
type subnet struct {
	prefix netip.Prefix
	dev    string
}

// look observes a namespace once per draft; nil is none.
func (d *draft) look(ctx context.Context, netns string) (*space, error) {
	if s, ok := d.spaces[netns]; ok {
		return s, nil
	}
	if err := d.lookAll(ctx, []string{netns}); err != nil {
		return nil, err
	}
	return d.spaces[netns], nil
}

func (d *draft) noteSpace(netns string, s *space) {
	if d.spaces == nil {
		d.spaces = map[string]*space{}
	}
	d.spaces[netns] = s
}

// spacesIn sorts what was observed of namespaces by their paths.
func spacesIn(have kstate.Set) map[string]*space {
	all := map[string]*space{}
	for _, o := range have {
		if ns, ok := o.(kstate.NetNS); ok {
			all[ns.NS.Path] = &space{inode: ns.NS.Inode, names: map[string]bool{}, theirs: map[string]bool{}}
		}
	}
	for _, o := range have {
		switch o := o.(type) {
		case kstate.Link:
			if s := all[o.NS.Path]; s != nil {
				s.names[o.Name] = true
				s.theirs[o.Name] = s.theirs[o.Name] || kstate.Foreign(o)
			}
			if s := all[o.Peer.NS.Path]; s != nil {
				s.names[o.Peer.Name] = true
			}
		case kstate.Addr:
			s := all[o.NS.Path]
			switch {
			case s == nil:
			case !kstate.Foreign(o):
				s.ours = true
			default:
				s.names[o.Dev], s.theirs[o.Dev] = true, true // perhaps a veth of ours that Docker furnished
				s.subnets = append(s.subnets, subnet{o.Prefix.Masked(), o.Dev})
			}
		case kstate.Route:
			s := all[o.NS.Path]
			switch {
			case s == nil:
			case !kstate.Foreign(o):
				s.ours = true
			case o.Dst.Bits() == 0:
				s.routed4, s.routed6 = s.routed4 || o.Dst.Addr().Is4(), s.routed6 || o.Dst.Addr().Is6()
			default:
				s.subnets = append(s.subnets, subnet{o.Dst, o.Dev})
			}
		}
	}
	return all
}

// inhabited reports whether a sandbox's namespace may have what others put there.
func (d *draft) inhabited(sb *model.Sandbox) bool {
	return sb.Mode == model.ModeOther && !sb.Away() || sb.Mode == model.ModeOwn && d.e.intent.Sandboxes[sb.ID] != nil
}

// checkSubnets refuses a network for a namespace that has another way to it already,
// which is not ours: which one packets take would be a matter of chance. A route to
// more than the network is none.
func (d *draft) checkSubnets(ctx context.Context, sb *model.Sandbox, n *model.Network) error {
	if !d.inhabited(sb) {
		return nil
	}
	there, err := d.look(ctx, sb.NetNS)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	if there == nil {
		return nil
	}
	slices.SortFunc(there.subnets, func(a, b subnet) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.dev, b.dev))
	})
	own := map[string]bool{} // leads to the network itself
	for ep := range sb.On(n.ID) {
		own[ep.IfName] = true
	}
	for _, s := range n.Subnets {
		for _, have := range there.subnets {
			if !own[have.dev] && s.Prefix.Overlaps(have.prefix) && have.prefix.Bits() >= s.Prefix.Bits() {
				return d.errorf(model.Conflict, "subnet %s: overlaps %s of device %s in the sandbox", s.Prefix, have.prefix, have.dev)
			}
		}
	}
	return nil
}

// hostNetNS is the host's namespace: the daemon's. It is asked of the thread:
// the process's first one, which /proc/self shows, may be in a sandbox just now.
const hostNetNS = "/proc/thread-self/ns/net"

// ownInode returns the inode of the daemon's own namespace, observed once.
func (e *Engine) ownInode(ctx context.Context) (uint64, error) {
	if e.inode != 0 {
		return e.inode, nil
	}
	have, err := e.cfg.Kernel.Observe(ctx, kernel.Scope{NS: []kstate.NS{{Path: hostNetNS}}, Only: true})
	for _, o := range have {
		if ns, ok := o.(kstate.NetNS); ok && ns.NS.Path == hostNetNS {
			e.inode = ns.NS.Inode
		}
	}
	return e.inode, err
}

// sandboxOrForeign resolves a reference that may also be netns:PATH or pid:N:
// the sandbox that stands for that namespace, made if there is none.
func (d *draft) sandboxOrForeign(ctx context.Context, ref string) (*model.Sandbox, error) {
	netns, err := foreignPath(ref)
	if err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	if netns == "" {
		return d.existing(ref)
	}
	probe := &model.Sandbox{}
	if err := d.settleForeign(ctx, probe, netns); err != nil {
		return nil, err
	}
	if sb := d.standsFor(netns, probe.Inode); sb != nil {
		return sb, nil
	}
	return d.addSandbox(ctx, SandboxSpec{Mode: model.ModeOther, NetNS: netns}, nil)
}

// standsFor returns the sandbox whose namespace is the one at a path, or nil.
func (d *draft) standsFor(netns string, inode uint64) *model.Sandbox {
	for sb := range d.marked(atPath(netns), atInode(inode)) {
		if sb.Exit == nil && (sb.Mode == model.ModeOwn && sb.NetNS == netns || sb.Mode == model.ModeOther && sb.Inode == inode && (inode != 0 || sb.NetNS == netns)) {
			return sb
		}
	}
	return nil
}

// foreignPath returns the namespace path that netns:PATH and pid:N stand for,
// or "" for other references.
func foreignPath(ref string) (string, error) {
	if p, ok := strings.CutPrefix(ref, "netns:"); ok {
		if !path.IsAbs(p) {
			return "", fmt.Errorf("%s: want an absolute path", ref)
		}
		return path.Clean(p), nil
	}
	if n, ok := strings.CutPrefix(ref, "pid:"); ok {
		if n == "" || strings.Trim(n, "0123456789") != "" {
			return "", fmt.Errorf("%s: want a process number", ref)
		}
		return "/proc/" + n + "/ns/net", nil
	}
	return "", nil
}

// existing resolves a reference to a sandbox that is there. A namespace that
// vanished is still found by its path.
func (d *draft) existing(ref string) (*model.Sandbox, error) {
	g, guest, err := model.ParseGuest(ref)
	if err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	if id, ok := strings.CutPrefix(ref, containerRef); ok {
		return d.ofContainer(id)
	}
	if !guest {
		return d.sandbox(ref)
	}
	if sb := d.referred(g); sb != nil {
		return sb, nil
	}
	if netns, _ := foreignPath(ref); netns != "" {
		for sb := range d.marked(atPath(netns)) {
			if (sb.Mode == model.ModeOther || sb.Mode == model.ModeOwn) && sb.NetNS == netns {
				return sb, nil
			}
		}
	}
	return nil, noSandbox(ref, d.op)
}
