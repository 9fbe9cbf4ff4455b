package engine

import (
	"slices"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// compile returns the state of what the draft touches, before and after: of networks, what
// is not the same in both.
func (d *draft) compile() (before, after kstate.Set, err error) {
	d.touchLinked()
	was, is := d.e.intent, compile.Intent{Networks: d.allNetworks(), Sandboxes: d.sandboxes}
	if d.linked() {
		is.Sandboxes = laid(d.e.intent.Sandboxes, d.sandboxes)
	}
	if before, err = d.fragments(was); err != nil {
		return nil, nil, err
	}
	if after, err = d.fragments(is); err != nil {
		return nil, nil, err
	}
	for id := range d.networks {
		a, b, err := compile.Change(was.Networks[id], is.Networks[id], d.e.facts)
		if err != nil {
			return nil, nil, err
		}
		if before, err = joined(before, a); err != nil {
			return nil, nil, err
		}
		if after, err = joined(after, b); err != nil {
			return nil, nil, err
		}
	}
	return before, after, nil
}

// fragments compiles of an intent the sandboxes that the draft touches, and the host if it
// does.
func (d *draft) fragments(in compile.Intent) (s kstate.Set, err error) {
	s = kstate.Set{}
	if d.touchesHost() {
		if s, err = compile.Host(in, d.e.facts); err != nil {
			return nil, err
		}
	}
	for id := range d.sandboxes {
		if sb := in.Sandboxes[id]; sb != nil {
			part, err := compile.Sandbox(sb, in, d.e.facts)
			if err != nil {
				return nil, err
			}
			if s, err = joined(s, part); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// joined returns two sets as one, which is the larger of them.
func joined(a, b kstate.Set) (kstate.Set, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	return a, a.Merge(b)
}

// touchesHost reports whether the host's fragment may change.
func (d *draft) touchesHost() bool {
	for id, n := range d.networks {
		if !compile.LeavesHost(d.e.intent.Networks[id], n, d.e.facts) {
			return true
		}
	}
	return false
}

// linked reports whether the fragment of a sandbox may depend on another's.
func (d *draft) linked() bool {
	if d.e.links > 0 {
		return true
	}
	for _, sb := range d.sandboxes {
		if sb != nil && len(sb.Links) > 0 {
			return true
		}
	}
	return false
}

// touchLinked takes into the draft the sandboxes that link to one in it: their
// fragments change with it.
func (d *draft) touchLinked() {
	if d.e.links == 0 {
		return
	}
	var changed []*model.Sandbox
	for id, sb := range d.sandboxes {
		for _, sb := range []*model.Sandbox{sb, d.e.intent.Sandboxes[id]} {
			if sb != nil {
				changed = append(changed, sb)
			}
		}
	}
	for id, sb := range d.e.intent.Sandboxes {
		if _, in := d.sandboxes[id]; !in && slices.ContainsFunc(sb.Links, func(l model.Link) bool {
			return slices.ContainsFunc(changed, l.Means)
		}) {
			d.edit(sb)
		}
	}
}
