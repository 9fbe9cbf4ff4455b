package kstate

import "strconv"

// AllTags and NoTags are values of [Link.Tags] that are no list of VLANs.
const (
	AllTags = "all"  // every VLAN with its tag, and what has none
	NoTags  = "none" // nothing at all
)

// sorting is the text of what a bridge that sorts frames by VLAN does with them.
func (o Link) sorting() string {
	s := ""
	if o.Sorting {
		s = " sorting"
	}
	if o.Tag != 0 {
		s += " tag " + strconv.Itoa(o.Tag)
	}
	if o.Tags != "" {
		s += " tags " + o.Tags
	}
	return s
}

// Trunk makes those ports of a bridge that are not ours ways out for all its VLANs:
// each carries every VLAN with its tag, and without one what has none. The bridge
// sorts frames by VLAN from then on, and if it is not ours so does the host on it
// have them all, as before. That somebody's bridge did not sort is kept in the
// journal, and it does not once Trunk is removed; one that sorts without us has its
// ports as they are.
type Trunk struct {
	Bridge string
	Other  bool // it sorts without us
}

func (o Trunk) foreign() bool { return o.Other }

// Key is the bridge.
func (o Trunk) Key() Key { return Key{KindTrunk, o.Bridge} }

// On is the bridge.
func (o Trunk) On() []Key { return []Key{linkKey(NS{}, o.Bridge)} }

// String is "trunk BRIDGE".
func (o Trunk) String() string { return "trunk " + o.Bridge }
