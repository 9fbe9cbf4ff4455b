package nft

import (
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// Filters returns the base chains of others that filter what passes the host or
// goes to it, in no order.
func (c *Conn) Filters() ([]kstate.Filter, error) {
	var out []kstate.Filter
	err := c.consistent(func(r *reader) error {
		_, theirs, err := r.tables()
		if err != nil {
			return err
		}
		if out, err = r.filters(theirs); err != nil {
			return err
		}
		return r.judge(out)
	})
	return out, err
}

// filters returns the base chains for which tables are filters, without Stops.
func (r *reader) filters(tables []kstate.Table) ([]kstate.Filter, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	var out []kstate.Filter
	regular := map[kstate.Table][]string{}
	err := r.getAll(unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, func(t kstate.Table, a attrs) {
		hook := attrs(a.find(unix.NFTA_CHAIN_HOOK))
		switch {
		case !slices.Contains(tables, t):
		case hook == nil:
			regular[t] = append(regular[t], text(a.find(unix.NFTA_CHAIN_NAME)))
		case filtering(hook) && text(a.find(unix.NFTA_CHAIN_TYPE)) == "filter":
			out = append(out, filterOf(t, hook, a))
		}
	})
	for i := range out {
		names := regular[out[i].Table]
		slices.Sort(names)
		out[i].Chains, out[i].Owned = names, slices.Contains(r.owned, out[i].Table)
	}
	return out, err
}

// filtering says that a hook is one where the host's firewalls stand.
func filtering(hook attrs) bool {
	n := number(hook.find(unix.NFTA_HOOK_HOOKNUM))
	return n == unix.NF_INET_FORWARD || n == unix.NF_INET_LOCAL_IN
}

func filterOf(t kstate.Table, hook, chain attrs) kstate.Filter {
	f := kstate.Filter{
		Table: t, Chain: text(chain.find(unix.NFTA_CHAIN_NAME)),
		Hook:     hooks[number(hook.find(unix.NFTA_HOOK_HOOKNUM))],
		Priority: int(int32(number(hook.find(unix.NFTA_HOOK_PRIORITY)))),
		Policy:   "accept",
	}
	if number(chain.find(unix.NFTA_CHAIN_POLICY)) != codeAccept {
		f.Policy = "drop"
	}
	return f
}

// tablesOf returns each table of filters once.
func tablesOf(filters []kstate.Filter) []kstate.Table {
	var out []kstate.Table
	for _, f := range filters {
		if !slices.Contains(out, f.Table) {
			out = append(out, f.Table)
		}
	}
	return out
}

// judge finds out which filters stop packets.
func (r *reader) judge(filters []kstate.Filter) error {
	for _, t := range tablesOf(filters) {
		flow := flows{}
		err := r.get(unix.NFT_MSG_GETRULE, t, unix.NFTA_RULE_TABLE, func(a attrs) {
			flow.of(text(a.find(unix.NFTA_RULE_CHAIN))).rule(attrs(a.find(unix.NFTA_RULE_EXPRESSIONS)))
		})
		if err == nil {
			err = r.follow(t, flow)
		}
		if err != nil {
			return err
		}
		for i := range filters {
			if f := &filters[i]; f.Table == t {
				f.Stops = flow.stops(f.Chain, map[string]bool{})
				f.Reached = flow.reached(f.Chain)
				f.Ends = flow.ending(*f)
			}
		}
	}
	return nil
}

// follow adds what verdict maps say to the chains that ask them.
func (r *reader) follow(t kstate.Table, flow flows) error {
	for _, f := range flow {
		for _, name := range f.maps {
			err := r.getNamed(unix.NFT_MSG_GETSETELEM, t, unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, name, func(a attrs) {
				list := attrs(a.find(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
				for _, e, ok := list.next(); ok; _, e, ok = list.next() {
					f.verdict(attrs(attrs(e).find(unix.NFTA_SET_ELEM_DATA)).find(unix.NFTA_DATA_VERDICT))
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// flows are the chains of one table, by name.
type flows map[string]*flow

// flow is what can become of packets in a chain.
type flow struct {
	stop bool
	next []string // chains
	maps []string // of verdicts
	sure []sure   // rules without a condition, in order
	n    int      // rules
}

func (f flows) of(chain string) *flow {
	if f[chain] == nil {
		f[chain] = &flow{}
	}
	return f[chain]
}

// stops says whether packets can end in a chain or in one after it.
func (f flows) stops(chain string, seen map[string]bool) bool {
	at := f[chain]
	if at == nil || seen[chain] {
		return false
	}
	seen[chain] = true
	return at.stop || slices.ContainsFunc(at.next, func(next string) bool { return f.stops(next, seen) })
}

// stoppers are targets of xtables that packets do not leave. A plain drop is
// none of them: iptables writes a verdict.
var stoppers = []string{"REJECT", "NFQUEUE", "TARPIT", "DELUDE", "CHAOS"}

// rule looks at a rule's expressions.
func (f *flow) rule(exprs attrs) {
	f.certain(exprs)
	for _, e, ok := exprs.next(); ok; _, e, ok = exprs.next() {
		data := attrs(attrs(e).find(unix.NFTA_EXPR_DATA))
		switch text(attrs(e).find(unix.NFTA_EXPR_NAME)) {
		case "immediate":
			f.verdict(attrs(data.find(unix.NFTA_IMMEDIATE_DATA)).find(unix.NFTA_DATA_VERDICT))
		case "lookup":
			if reg := data.find(unix.NFTA_LOOKUP_DREG); reg != nil && number(reg) == unix.NFT_REG_VERDICT {
				f.maps = append(f.maps, text(data.find(unix.NFTA_LOOKUP_SET)))
			}
		case "reject", "queue":
			f.stop = true
		case "target":
			f.stop = f.stop || slices.Contains(stoppers, text(data.find(unix.NFTA_TARGET_NAME)))
		}
	}
}

// verdict takes a verdict, or nil. Those of netfilter are 0 or more; a queue's
// has the queue's number in its upper half.
func (f *flow) verdict(v attrs) {
	code := v.find(unix.NFTA_VERDICT_CODE)
	if code == nil {
		return
	}
	if n := int32(number(code)); n >= 0 && n != codeAccept {
		f.stop = true
	}
	if chain := v.find(unix.NFTA_VERDICT_CHAIN); chain != nil {
		f.next = append(f.next, text(chain))
	}
}
