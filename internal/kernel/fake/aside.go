package fake

import (
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// asideEntry is the journal's key of a namespace with routes aside.
func asideEntry(ns kstate.NS) string { return asidePrefix + ns.String() }

const asidePrefix = "aside/"

// isAside reports whether o is somebody's default route that is aside.
func isAside(o kstate.Object) bool {
	r, ok := o.(kstate.Route)
	return ok && r.Other && r.Dst == kstate.Aside{}.Dst() && r.Metric == kstate.AsideMetric
}

// inFront reports whether o is somebody's default route in the way of ours.
func inFront(o kstate.Object) bool {
	r, ok := o.(kstate.Route)
	return ok && r.Other && r.Dst == kstate.Aside{}.Dst() && r.Metric == 0
}

// putAside sets others' default routes aside. The journal knows the namespace as
// it was named.
func (k *Kernel) putAside(o kstate.Aside) error {
	for _, r := range k.world.defaults(o.NS, inFront) {
		set := func() {
			r.Metric = kstate.AsideMetric
			k.world.set(r)
		}
		if err := k.journaled(asideEntry(o.NS), "", set); err != nil {
			return err
		}
	}
	return nil
}

// removeAside puts them back, unless somebody has another by now.
func (k *Kernel) removeAside(o kstate.Aside) error {
	entries, err := k.journal.Entries()
	if err != nil {
		return err
	}
	back := func() {
		if !k.world.has(o.NS) {
			return
		}
		theirs := len(k.world.defaults(o.NS, inFront)) > 0
		ours := kstate.Route{NS: pathOnly(o.NS), Dst: o.Dst()}.Key()
		if len(k.world.defaults(o.NS, isAside)) > 0 {
			k.world.drop(ours)
		}
		for _, r := range k.world.defaults(o.NS, isAside) {
			if r.Metric = 0; theirs {
				k.world.drop(r.Key())
				continue
			}
			k.world.set(r)
		}
	}
	if _, noted := entries[asideEntry(o.NS)]; noted {
		return k.unjournaled(asideEntry(o.NS), back)
	}
	back()
	return nil
}

// defaults lists the routes of a namespace that are so.
func (w *world) defaults(ns kstate.NS, so func(kstate.Object) bool) []kstate.Route {
	var out []kstate.Route
	for _, o := range w.objs {
		if r, ok := o.(kstate.Route); ok && r.NS.Path == ns.Path && so(r) {
			out = append(out, r)
		}
	}
	return out
}

// asides tells of the namespaces that were looked at, and of those of the journal.
func (w *world) asides(out kstate.Set, names map[string]kstate.NS, entries map[string]string, only bool) {
	noted := map[string]bool{}
	for key := range entries {
		if text, ok := strings.CutPrefix(key, asidePrefix); ok {
			noted[text] = true
		}
	}
	for _, ns := range names {
		first := len(w.defaults(ns, inFront)) > 0
		own, _ := w.objs[kstate.NetNS{NS: pathOnly(ns)}.Key()].(kstate.NetNS)
		o := kstate.Aside{NS: ns, Partly: first}
		switch {
		case noted[ns.String()] || len(w.defaults(ns, isAside)) > 0:
		case !first && own.Other:
			o.Other = true
		default:
			continue
		}
		out[o.Key()] = o
		delete(noted, ns.String())
	}
	for text := range noted {
		if !only {
			o := kstate.Aside{NS: named(text)}
			out[o.Key()] = o
		}
	}
}

// named reads the text of a namespace.
func named(text string) kstate.NS {
	path, inode, _ := strings.Cut(text, "#")
	n, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return kstate.NS{Path: text}
	}
	return kstate.NS{Path: path, Inode: n}
}
