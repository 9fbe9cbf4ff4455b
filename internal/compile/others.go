package compile

import (
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
)

// Others' firewalls. What this one accepts may still end in a chain of
// somebody else's that drops what it does not know: Docker's and ufw's FORWARD
// by policy, firewalld's filter_FORWARD by its last rule. One rule there lets
// pass what bears our Mark. A chain that lets pass what it does not know gets
// none: whatever it drops, somebody means to have dropped. For the same reason
// the rule comes as late as it can.
//
// On the way to the host itself only packets for the daemon's proxy bear the
// mark.

// accept is the rule.
var accept = fmt.Sprintf("meta mark and %#x == %#x accept", kstate.Mark, kstate.Mark)

// place of a guest. Chains are looked for in the order of this list: who knows
// ufw's has ufw say no to forwarded packets in ufw-user-forward, which comes
// before the end of ufw-before-forward; DOCKER-USER is for the administrator.
var places = []struct{ hook, chain, at string }{
	{"forward", "ufw-before-forward", "last"},
	{"forward", "ufw6-before-forward", "last"},
	{"input", "ufw-before-input", "last"},
	{"input", "ufw6-before-input", "last"},
	{"forward", "DOCKER-USER", "before-last"},
}

// guests returns our rules in the chains of others.
func guests(f Facts) []kstate.Object {
	var out []kstate.Object
	for _, filter := range f.Filters {
		if g, ok := guest(filter, f.ProxyPort != 0); ok {
			out = append(out, g)
		}
	}
	return out
}

// guest returns our rule for a filter if it needs and can have one.
func guest(f kstate.Filter, proxied bool) (kstate.Guest, bool) {
	if f.Ends == kstate.EndsOpen || f.Owned || f.Legacy || f.Priority <= judging || f.Hook == "input" && !proxied {
		return kstate.Guest{}, false
	}
	g := kstate.Guest{Table: f.Table, Chain: f.Chain, Rule: accept}
	switch f.Ends {
	case kstate.EndsPolicy:
		g.At = "last"
	case kstate.EndsLast:
		g.At = "before-last"
	default:
		g.At = "first"
	}
	for _, p := range places {
		if p.hook == f.Hook && slices.Contains(f.Reached, p.chain) {
			g.Chain, g.At = p.chain, p.at
			break
		}
	}
	return g, true
}

// Exceptions lists our rules in the chains of others, as "FAMILY TABLE CHAIN:
// RULE".
func Exceptions(f Facts) []string {
	var out []string
	for _, o := range guests(f) {
		g := o.(kstate.Guest)
		out = append(out, fmt.Sprintf("%s %s %s: %s", g.Table.Family, g.Table.Name, g.Chain, g.Rule))
	}
	slices.Sort(out)
	return out
}

// Helpless says, in a sentence, which firewall of somebody else's drops our
// packets where no rule of ours can help, or "".
func Helpless(f Facts) string {
	for _, o := range f.Filters {
		chain := fmt.Sprintf("chain %s of table %s %s", o.Chain, o.Table.Family, o.Table.Name)
		switch {
		case o.Ends == kstate.EndsOpen || o.Hook == "input" && f.ProxyPort == 0:
		case o.Legacy:
			tool := o.Table.Family + "tables-legacy"
			return fmt.Sprintf("chain %s of %s drops what it does not know: %s -I %s -m mark --mark %#[5]x/%#[5]x -j ACCEPT has it let pass what Sealane does", o.Chain, tool, tool, o.Chain, kstate.Mark)
		case o.Priority <= judging:
			return fmt.Sprintf("%s drops what it does not know before Sealane can judge it: give it a priority above %d", chain, judging)
		case o.Owned:
			return fmt.Sprintf("%s drops what it does not know, and only its owner may change it: have it accept packets with mark %#[2]x/%#[2]x", chain, kstate.Mark)
		}
	}
	return ""
}

// strange returns the bridges of others. One that a network has adopted is
// that network's.
func strange(in Intent, f Facts) []kstate.Object {
	var out []kstate.Object
	for _, dev := range f.Bridges {
		if !in.adopted(dev) {
			out = append(out, elem(mapOnward, dev, verdictToOthers))
		}
	}
	return out
}

func (in Intent) adopted(dev string) bool {
	for _, n := range in.Networks {
		if n.Device() == dev {
			return true
		}
	}
	return false
}

// AboutOthers says whether an object of ours follows what others have on the
// host, and changes when that does.
func AboutOthers(o kstate.Object) bool {
	if e, ok := o.(kstate.Elem); ok {
		return e.Set.Name == mapOnward.Name && e.Value == verdictToOthers
	}
	_, ok := o.(kstate.Guest)
	return ok
}
