package compile

import (
	"net/netip"
	"slices"
)

// apart cuts the spans that are for some clients only, so that no two overlap,
// which the kernel would refuse: where ports have several prefixes, those inside
// others go.
func apart(spans []span) []span {
	everyone := func(s span) bool { return s.from == "" }
	limited := slices.DeleteFunc(slices.Clone(spans), everyone)
	if len(limited) == 0 {
		return spans
	}
	out := slices.DeleteFunc(spans, func(s span) bool { return !everyone(s) })
	for len(limited) > 0 {
		one := limited[0]
		same := func(s span) bool { return s.to == one.to && s.proto == one.proto && s.asked == one.asked }
		out = append(out, cut(slices.DeleteFunc(slices.Clone(limited), func(s span) bool { return !same(s) }))...)
		limited = slices.DeleteFunc(limited, same)
	}
	return out
}

// cut cuts spans of one address and protocol, asked for in one way, wherever one begins or ends.
func cut(spans []span) []span {
	var edges []int
	for _, s := range spans {
		edges = append(edges, int(s.first), int(s.last)+1)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []span
	for i := 0; i+1 < len(edges); i++ {
		var here []span
		for _, s := range spans {
			if int(s.first) <= edges[i] && edges[i] <= int(s.last) {
				s.first, s.last = uint16(edges[i]), uint16(edges[i+1]-1)
				here = append(here, s)
			}
		}
		for j, s := range here {
			if !slices.ContainsFunc(here, func(o span) bool { return within(s.from, o.from) }) && !slices.Contains(here[:j], s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// within reports whether clients a are a part of clients b, and not all of them.
func within(a, b string) bool {
	p, q := clients(a), clients(b)
	return p.Bits() > q.Bits() && q.Overlaps(p)
}

// clients is what clientSpan wrote.
func clients(text string) netip.Prefix {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, _ := netip.ParsePrefix(text)
	return p
}
