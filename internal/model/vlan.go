package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Trunks are the VLANs whose frames a port carries with their tags, as
// ParseTrunks writes them: "100,200-210", or "all"; "" is none.
type Trunks string

// AllVLANs says that a port carries every VLAN, and frames without a tag.
const AllVLANs Trunks = "all"

// List returns the VLANs in order, nil for all of them.
func (t Trunks) List() []int {
	if t == "" || t == AllVLANs {
		return nil
	}
	var out []int
	for part := range strings.SplitSeq(string(t), ",") {
		low, high, ranged := strings.Cut(part, "-")
		first, _ := strconv.Atoi(low)
		last := first
		if ranged {
			last, _ = strconv.Atoi(high)
		}
		for v := first; v <= last; v++ {
			out = append(out, v)
		}
	}
	return out
}

// ParseTrunks reads VLANs and ranges of them, in any order.
func ParseTrunks(text string) (Trunks, error) {
	if Trunks(text) == AllVLANs {
		return AllVLANs, nil
	}
	var in [maxVLAN + 2]bool // one more than the last stays false
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		first, err1 := ParseVLAN(low)
		last, err2 := ParseVLAN(high)
		if err1 != nil || err2 != nil || last < first {
			return "", fmt.Errorf("%q: want VLANs as 100,200-210, of 1 to %d, or all", text, maxVLAN)
		}
		for v := first; v <= last; v++ {
			in[v] = true
		}
	}
	return joinTrunks(in[:]), nil
}

// joinTrunks writes the VLANs that are true, in as few words as there can be.
func joinTrunks(in []bool) Trunks {
	var parts []string
	for first := 1; first < len(in); first++ {
		if !in[first] {
			continue
		}
		last := first
		for in[last+1] {
			last++
		}
		part := strconv.Itoa(first)
		if last > first {
			part += "-" + strconv.Itoa(last)
		}
		parts = append(parts, part)
		first = last
	}
	return Trunks(strings.Join(parts, ","))
}

// ParseVLAN reads the number of a VLAN.
func ParseVLAN(text string) (int, error) { return number(text, 1, maxVLAN, "") }

// VLANOf returns the VLAN of an endpoint, whose frames have no tag inside: its
// own, or the network's. 0 is none.
func (n *Network) VLANOf(e *Endpoint) int {
	if e.VLAN != 0 || e.Trunks != "" {
		return e.VLAN
	}
	return n.Options.VLAN
}

// TrunksOf returns the VLANs that an endpoint has with their tags: its own, or
// the network's.
func (n *Network) TrunksOf(e *Endpoint) Trunks {
	if e.VLAN != 0 || e.Trunks != "" {
		return e.Trunks
	}
	return n.Options.Trunks
}

// checkVLANs reports options about VLANs that contradict each other.
func (n *Network) checkVLANs() error { return checkTrunks(n.Options.VLAN, n.Options.Trunks) }

// checkTrunks reports a VLAN that a port would have with its tag and without.
func checkTrunks(vlan int, trunks Trunks) error {
	switch {
	case vlan != 0 && trunks == AllVLANs:
		return errors.New("option trunks: all: has no VLAN without a tag, which option vlan asks for")
	case vlan != 0 && slices.Contains(trunks.List(), vlan):
		return fmt.Errorf("option trunks: VLAN %d: has no tag, as option vlan says", vlan)
	}
	return nil
}

// The names of endpoint options about VLANs.
const (
	endpointVLAN   = "vlan"
	endpointTrunks = "trunks"
)

// setVLAN sets one of them.
func (o *EndpointOptions) setVLAN(name, value string) (err error) {
	if name == endpointVLAN {
		o.VLAN, err = ParseVLAN(value)
	} else {
		o.Trunks, err = ParseTrunks(value)
	}
	if err != nil {
		return err
	}
	return checkTrunks(o.VLAN, o.Trunks)
}

// The datapaths of Open vSwitch.
const (
	DatapathSystem = "system" // in the kernel
	DatapathNetdev = "netdev" // in ovs-vswitchd itself
)

func parseDatapath(o *Options, v string) error {
	if v != DatapathSystem && v != DatapathNetdev {
		return fmt.Errorf("%q: want system or netdev", v)
	}
	o.Datapath = v
	return nil
}
