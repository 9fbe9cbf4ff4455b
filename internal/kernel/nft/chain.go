package nft

import (
	"fmt"
	"math"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// Parsed is a chain taken apart: what it stands on besides its table.
type Parsed struct {
	Sets   []SetUse // that its rules look something up in
	Chains []string // that its rules jump or go to
	rules  []compiled
}

// compiled is a rule ready for the kernel.
type compiled struct {
	exprs    []expr.Any
	userdata []byte
}

// families of tables, as nft names them: those of our tables, and those where
// others filter what passes the host.
var families = []struct {
	name         string
	number       byte
	ours, theirs bool
}{
	{"inet", unix.NFPROTO_INET, true, true}, {"bridge", unix.NFPROTO_BRIDGE, true, false},
	{"ip", unix.NFPROTO_IPV4, false, true}, {"ip6", unix.NFPROTO_IPV6, false, true},
}

func familyNumber(name string) (byte, error) {
	for _, f := range families {
		if f.name == name && f.ours {
			return f.number, nil
		}
	}
	return 0, fmt.Errorf("family %q: want inet or bridge", name)
}

// guestFamily is the number of a family where our guests may be.
func guestFamily(name string) (byte, error) {
	for _, f := range families {
		if f.name == name && f.theirs {
			return f.number, nil
		}
	}
	return 0, fmt.Errorf("family %q: want ip, ip6 or inet", name)
}

// familyName is the name of a family of ours or theirs, "" for another.
func familyName(number byte) string {
	for _, f := range families {
		if f.number == number {
			return f.name
		}
	}
	return ""
}

// hooks by number, enum nf_inet_hooks; those of a bridge are the same.
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting"}

// ParseChain checks a chain and all its rules. The error names the rule and
// says what is wrong with it.
func ParseChain(c kstate.Chain) (*Parsed, error) {
	family, err := familyNumber(c.Table.Family)
	if err != nil {
		return nil, err
	}
	if err := checkChain(c); err != nil {
		return nil, err
	}
	p := &Parsed{}
	for _, text := range c.Rules {
		if err := p.add(family, text); err != nil {
			return nil, fmt.Errorf("rule %q: %w", text, err)
		}
	}
	return p, nil
}

func (p *Parsed) add(family byte, text string) error {
	r, err := parseRule(text)
	if err != nil {
		return err
	}
	c, err := r.compile(compiler{family: family})
	if err != nil {
		return err
	}
	data, err := encodeUserdata(text, r.comment)
	if err != nil {
		return err
	}
	p.rules = append(p.rules, compiled{c.out, data})
	for _, u := range c.sets {
		if !slices.Contains(p.Sets, u) {
			p.Sets = append(p.Sets, u)
		}
	}
	for _, name := range c.chains {
		if !slices.Contains(p.Chains, name) {
			p.Chains = append(p.Chains, name)
		}
	}
	return nil
}

func checkChain(c kstate.Chain) error {
	if err := checkName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if c.Hook == "" {
		if c.Type != "" || c.Priority != 0 {
			return fmt.Errorf("type %q and priority %d without a hook", c.Type, c.Priority)
		}
		return nil
	}
	hook := slices.Index(hooks, c.Hook)
	switch {
	case hook < 0:
		return fmt.Errorf("hook %q is not known", c.Hook)
	case c.Type != "filter" && c.Type != "nat" && c.Type != "route":
		return fmt.Errorf("type %q: want filter, nat or route", c.Type)
	case c.Type == "route" && (hook != unix.NF_INET_LOCAL_OUT || c.Table.Family == "bridge"):
		return fmt.Errorf("type route cannot be at hook %s of family %s", c.Hook, c.Table.Family)
	case c.Type == "nat" && (hook == unix.NF_INET_FORWARD || c.Table.Family == "bridge"):
		return fmt.Errorf("type nat cannot be at hook %s of family %s", c.Hook, c.Table.Family)
	case c.Type == "nat" && c.Priority <= conntrackPriority:
		return fmt.Errorf("type nat: priority %d is not above %d, where connections are tracked", c.Priority, conntrackPriority)
	case c.Priority < math.MinInt32 || c.Priority > math.MaxInt32:
		return fmt.Errorf("priority %d does not fit 32 bits", c.Priority)
	}
	return nil
}

// conntrackPriority is NF_IP_PRI_CONNTRACK, which chains of type nat must
// follow (nft_chain_parse_hook).
const conntrackPriority = -200
