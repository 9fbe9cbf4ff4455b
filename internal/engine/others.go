package engine

import (
	"slices"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
)

// Exceptions lists the rules that were added to others' firewalls so that they
// let our packets pass, as "FAMILY TABLE CHAIN: RULE". They serve all networks.
func (e *Engine) Exceptions() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.intent.Networks) == 0 {
		return nil
	}
	return compile.Exceptions(e.facts)
}

// bridges lists the bridges of others that only lead to their own machines:
// all ports are ends of containers or of virtual machines, and no default route
// goes there. A bridge that a network has adopted may be among them.
func bridges(have kstate.Set) []string {
	found := map[string]bool{}
	for _, o := range have {
		if l, ok := o.(kstate.Link); ok && l.Other && l.NS.IsHost() && l.Type == kstate.TypeBridge {
			found[l.Name] = true
		}
	}
	for _, o := range have {
		switch o := o.(type) {
		case kstate.Link:
			if o.NS.IsHost() && !virtual(o.Type) {
				delete(found, o.Master)
			}
		case kstate.Route:
			if o.NS.IsHost() && o.Dst.Bits() == 0 && o.Table == 0 {
				delete(found, o.Dev)
			}
		}
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// virtual says that a device of this type, as a port of a bridge, has a machine
// at its other end, or nothing.
func virtual(t kstate.LinkType) bool {
	return slices.Contains([]kstate.LinkType{kstate.TypeVeth, "tun", "dummy"}, t)
}
