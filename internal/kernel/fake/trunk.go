package fake

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// checkSorting refuses VLANs of what is no port of a bridge, nor one.
func checkSorting(o kstate.Link) error {
	switch {
	case o.Sorting && o.Type != kstate.TypeBridge:
		return errors.New("sorting: only bridges do")
	case o.Type != kstate.TypeBridge && o.Master == "" && (o.Tag != 0 || o.Tags != ""):
		return errors.New("tag and tags are for bridges and their ports")
	}
	return nil
}

// sortEntry is the journal's key of a bridge that did not sort.
func sortEntry(bridge string) string { return "vlans/" + bridge }

// strangers returns those of a bridge's ports that are not ours, and a bridge that is
// not.
func (w *world) strangers(bridge kstate.Link) []kstate.Link {
	var out []kstate.Link
	for _, o := range w.objs {
		if l, ok := o.(kstate.Link); ok && l.Other && l.NS.IsHost() && (l.Master == bridge.Name || l.Name == bridge.Name) {
			out = append(out, l)
		}
	}
	return out
}

func (w *world) tagOthers(bridge kstate.Link, tags string) {
	for _, l := range w.strangers(bridge) {
		l.Tag, l.Tags = 0, tags
		w.set(l)
	}
}

func (k *Kernel) putTrunk(o kstate.Trunk) error {
	w := &k.world
	l, ok := w.device(kstate.NS{}, o.Bridge)
	switch {
	case !ok:
		return fmt.Errorf("device %s %w", o.Bridge, kernel.ErrMissing)
	case l.Type != kstate.TypeBridge:
		return fmt.Errorf("device %s is no bridge", o.Bridge)
	case !l.Other:
		w.tagOthers(l, kstate.AllTags)
		return nil
	}
	entries, err := k.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, noted := entries[sortEntry(o.Bridge)]; l.Sorting && !noted {
		return nil
	}
	return k.journaled(sortEntry(o.Bridge), strconv.Itoa(k.boots), func() { w.sort(o.Bridge, true, kstate.AllTags) })
}

func (w *world) sort(bridge string, on bool, tags string) {
	if l, ok := w.device(kstate.NS{}, bridge); ok {
		l.Sorting = on
		w.set(l)
		w.tagOthers(l, tags)
	}
}

func (k *Kernel) removeTrunk(o kstate.Trunk) error {
	entries, err := k.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, noted := entries[sortEntry(o.Bridge)]; !noted {
		return nil
	}
	return k.unjournaled(sortEntry(o.Bridge), func() { k.world.sort(o.Bridge, false, "") })
}

// trunks adds what the bridges that sort have.
func (w *world) trunks(out kstate.Set, entries map[string]string) {
	for _, o := range w.objs {
		l, ok := o.(kstate.Link)
		if !ok || !l.NS.IsHost() || l.Type != kstate.TypeBridge || !l.Sorting {
			continue
		}
		t := kstate.Trunk{Bridge: l.Name}
		_, noted := entries[sortEntry(l.Name)]
		t.Other = !noted && l.Other
		whole := true
		for _, other := range w.strangers(l) {
			whole = whole && other.Tags == kstate.AllTags
		}
		if whole || t.Other {
			out[t.Key()] = t
		}
	}
}

// sweepSorting erases the entries of bridges that do not sort because of us.
func (k *Kernel) sweepSorting(entries map[string]string) error {
	for key, boot := range entries {
		name, ok := strings.CutPrefix(key, sortEntry(""))
		if l, _ := k.world.device(kstate.NS{}, name); !ok || l.Sorting && boot == strconv.Itoa(k.boots) {
			continue
		}
		if err := k.journal.Erase(key); err != nil {
			return err
		}
	}
	return nil
}
