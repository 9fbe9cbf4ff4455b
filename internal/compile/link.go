package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Linked returns the sandbox that a link means, or nil while there is none.
func (in Intent) Linked(l model.Link) *model.Sandbox {
	if sb := in.Sandboxes[model.ID(l.Target)]; sb != nil {
		return sb
	}
	for _, sb := range in.Sandboxes {
		if sb.Name == l.Target {
			return sb
		}
	}
	return nil
}

// legacy is where links are as Docker's first ones were: on the default
// network. It returns both ends' endpoints there, or nil.
func legacy(from, to *model.Sandbox, nets map[model.ID]*model.Network) (a, b *model.Endpoint) {
	if to == nil || !to.Live() {
		return nil, nil
	}
	for i := range from.Endpoints {
		e := &from.Endpoints[i]
		if n := nets[e.Network]; n != nil && n.Name == model.NetworkBridge {
			if b := to.Endpoint(e.Network); b != nil {
				return e, b
			}
		}
	}
	return nil, nil
}

// linked lets a sandbox use the exposed and published ports of those it links
// to, where containers may not talk otherwise.
func linked(sb *model.Sandbox, in Intent) []kstate.Object {
	var objs []kstate.Object
	for _, l := range sb.Links {
		to := in.Linked(l)
		a, b := legacy(sb, to, in.Networks)
		if a == nil || !in.Networks[a.Network].Options.NoICC {
			continue
		}
		for _, is6 := range []bool{false, true} {
			from, ok := a.Addr(is6)
			at, both := b.Addr(is6)
			if ok && both {
				objs = append(objs, reach(from.Addr(), at.Addr(), slices.Concat(to.Expose, to.Ports))...)
			}
		}
	}
	return distinct(objs)
}

// reach lets one address use ports of another. Spans that touch are joined.
func reach(from, to netip.Addr, ports []model.PortMapping) []kstate.Object {
	slices.SortFunc(ports, func(a, b model.PortMapping) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	var objs []kstate.Object
	for i := 0; i < len(ports); {
		first, proto := ports[i].Port, ports[i].Proto
		last := int(first) - 1
		for ; i < len(ports) && ports[i].Proto == proto && int(ports[i].Port) <= last+1; i++ {
			last = max(last, int(ports[i].Port)+int(ports[i].Count)-1)
		}
		objs = append(objs, elem(setLinks.of(to.Is6()), fmt.Sprintf("%s . %s . %s . %s", from, to, proto, portSpan(first, uint16(last))), ""))
	}
	return objs
}

// distinct leaves out what two links to one sandbox give twice.
func distinct(objs []kstate.Object) []kstate.Object {
	seen := map[kstate.Key]bool{}
	return slices.DeleteFunc(objs, func(o kstate.Object) bool {
		twice := seen[o.Key()]
		seen[o.Key()] = true
		return twice
	})
}
