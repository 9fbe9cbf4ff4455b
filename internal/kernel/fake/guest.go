package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/nft"
	"github.com/sealane/sealane/internal/kstate"
)

// ours is the name of our tables.
const ours = "sealane"

// ruleset is where a table or what is in one belongs.
func (w *world) ruleset(o kstate.Object) kstate.Set {
	t, ok := o.(kstate.Table)
	if c, chain := o.(kstate.Chain); chain {
		t, ok = c.Table, true
	}
	if ok && t.Name != ours {
		return w.others
	}
	return w.nft
}

func (w *world) putGuest(o kstate.Guest) error {
	if err := nft.ParseGuest(o); err != nil {
		return err
	}
	for _, k := range o.On() {
		if w.others[k] == nil {
			return fmt.Errorf("%s: %w", k.ID, kernel.ErrMissing)
		}
	}
	if _, ok := w.objs[o.Key()]; !ok { // one that is there stays where it is
		w.set(o)
	}
	return nil
}

// Filters returns what the tables of others filter, sorted by table and chain.
func (k *Kernel) Filters(ctx context.Context) ([]kstate.Filter, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return nil, ErrDead
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []kstate.Filter
	for _, o := range k.world.others.Sorted() {
		c, ok := o.(kstate.Chain)
		typ, policy, _ := strings.Cut(c.Type, " policy ")
		if !ok || typ != "filter" || c.Hook != "forward" && c.Hook != "input" || !slices.Contains([]string{"ip", "ip6", "inet"}, c.Table.Family) {
			continue
		}
		if policy == "" {
			policy = "accept"
		}
		f := kstate.Filter{
			Table: c.Table, Chain: c.Name, Hook: c.Hook, Priority: c.Priority, Policy: policy,
			Stops: k.world.stops(c, map[kstate.Key]bool{}), Chains: k.world.regular(c.Table), Reached: k.world.reached(c),
		}
		f.Ends = k.world.ending(c, policy)
		out = append(out, f)
	}
	return out, nil
}

// stops says whether somebody else's chain, or one it leads to, ends packets.
func (w *world) stops(c kstate.Chain, seen map[kstate.Key]bool) bool {
	if seen[c.Key()] {
		return false
	}
	seen[c.Key()] = true
	for _, rule := range c.Rules {
		for _, word := range strings.Fields(rule) {
			if word == "drop" || word == "reject" || word == "queue" {
				return true
			}
		}
		for _, ref := range scan(c.Table, rule) {
			if to, ok := w.others[ref].(kstate.Chain); ok && w.stops(to, seen) {
				return true
			}
		}
	}
	return false
}

// regular returns the names of a table's chains that are at no hook, sorted.
func (w *world) regular(t kstate.Table) []string {
	var out []string
	for _, o := range w.others {
		if c, ok := o.(kstate.Chain); ok && c.Table == t && c.Hook == "" {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return out
}
