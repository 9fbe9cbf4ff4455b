package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// ipam is the key of that name: addresses come from the daemon, and the
// configuration of the reference plugin host-local says which.
type ipam struct {
	Type string `json:"type"`
	ipRange
	Ranges [][]ipRange `json:"ranges"`
	Routes []struct {
		Dst string `json:"dst"`
		GW  string `json:"gw"`
	} `json:"routes"`
	DataDir string `json:"dataDir"` // the daemon has a place of its own
}

// ipRange is one range of host-local.
type ipRange struct {
	Subnet  string `json:"subnet"`
	Start   string `json:"rangeStart"`
	End     string `json:"rangeEnd"`
	Gateway string `json:"gateway"`
}

func readIPAM(c *config, v json.RawMessage) error {
	var in ipam
	if err := strictly(&in, v); err != nil {
		return err
	}
	if in.Type != "" && in.Type != "host-local" {
		return fmt.Errorf("type %q: want host-local, or leave ipam out: the daemon gives addresses", in.Type)
	}
	if in.ipRange != (ipRange{}) {
		in.Ranges = append(in.Ranges, []ipRange{in.ipRange})
	}
	for _, r := range in.Routes {
		if r.Dst != "0.0.0.0/0" && r.Dst != "::/0" {
			return fmt.Errorf("routes: %s: there are default routes only", r.Dst)
		}
		if r.GW != "" {
			c.families.gateways = append(c.families.gateways, r.GW)
		}
	}
	return c.addRanges(in.Ranges)
}

// addRanges adds the subnets of host-local's ranges. A set of several is for one
// endpoint to choose from, and an endpoint has an address of every set: here one of
// each family.
func (c *config) addRanges(sets [][]ipRange) error {
	seen := map[int]bool{}
	for _, set := range sets {
		if len(set) != 1 {
			return fmt.Errorf("ranges: a set of %d: want one range in each", len(set))
		}
		s, err := set[0].subnet()
		if err != nil {
			return err
		}
		if seen[family(s)] {
			return fmt.Errorf("ranges: subnet %s: want one of each address family", s.Prefix)
		}
		seen[family(s)] = true
		c.families.specs = append(c.families.specs, s)
	}
	return nil
}

// subnet is the range as the API has it: automatic addresses come from a prefix.
func (r ipRange) subnet() (api.SubnetSpec, error) {
	out := api.SubnetSpec{Prefix: r.Subnet, Gateway: r.Gateway}
	p, err := netip.ParsePrefix(r.Subnet)
	if err != nil {
		return out, fmt.Errorf("subnet %q: want ADDRESS/BITS, as 10.1.0.0/16", r.Subnet)
	}
	p = p.Masked() // host-local takes any address of it
	out.Prefix = p.String()
	first, last := p.Addr(), model.Last(p)
	for _, end := range []struct {
		key, text string
		at        *netip.Addr
	}{{"rangeStart", r.Start, &first}, {"rangeEnd", r.End, &last}} {
		if end.text == "" {
			continue
		}
		a, err := netip.ParseAddr(end.text)
		if err != nil || !p.Contains(a) {
			return out, fmt.Errorf("%s %q: want an address of %s", end.key, end.text, p)
		}
		*end.at = a
	}
	in, ok := span(p, first, last, r.Gateway)
	if !ok {
		return out, fmt.Errorf("range %s to %s: want one that is a prefix, as 10.1.0.128 to 10.1.0.255", first, last)
	}
	if in != p {
		out.Range = in.String()
	}
	return out, nil
}

// span returns the prefix from first to last. Addresses at the ends of the
// subnet that no container gets need not be in it: the subnet's own, the first
// that a gateway takes, and broadcast.
func span(subnet netip.Prefix, first, last netip.Addr, gateway string) (netip.Prefix, bool) {
	if n := subnet.Addr().Next(); first == n || first == n.Next() && (gateway == "" || gateway == n.String()) {
		first = subnet.Addr()
	}
	if end := model.Last(subnet); last.Next() == end {
		last = end
	}
	for bits := subnet.Bits(); bits <= first.BitLen(); bits++ {
		if p := netip.PrefixFrom(first, bits); p == p.Masked() && model.Last(p) == last {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// strictly decodes an object and refuses fields that are not known.
func strictly(v any, raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fill(v, raw)
	}
	if err != nil { // it is JSON: a field is not known
		return errorf(codeField, "%s in %s", strings.TrimPrefix(err.Error(), "json: "), brief(raw))
	}
	return nil
}
