package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Follow tells what became of a probe that was sent, from what nftables said of it, in the
// order of its way: explain.go says what should have.

// Followed is the way of a probe, and of what answered it.
type Followed struct {
	Src, Dst netip.AddrPort // as it was sent
	Proto    string
	Fate     string // "answered", "refused", "dropped", "unreachable" or "silent"
	Why      string // in a sentence, but of one that was answered
	Hint     string // what to do; "": nothing is known
	Took     time.Duration
	There    []Sight
	Back     []Sight
}

// Sight is one place where a packet was seen.
type Sight struct {
	Where   string // "host" or "sandbox NAME"
	In, Out string // devices, "": none
	What    string
	Table   string // "FAMILY NAME"; "": no chain's word
	Chain   string // that decided
	Hook    string // of the base chain
	Prio    int    // of it
	Rule    string // comment or text of the rule that decided
	Handle  uint64 // of it; 0: the policy did
	Owner   string // whose the table is
	Verdict string
	Problem bool // it ends the way
}

// Scene is what is known besides.
type Scene struct {
	Probe   kernel.Probe
	Names   map[kstate.NS]string // of namespaces, as in Sight.Where
	Filters []kstate.Filter
	Why     string // what Explain says is in the way, "": nothing
	Beyond  bool   // the destination is not on this host
	// Helpless is which of others' filters drops what no rule of ours can let pass, "": none.
	Helpless string
}

// Follow puts what was seen in order.
func Follow(s Scene, t kernel.Trail) Followed {
	f := Followed{Src: t.Src, Dst: t.Dst, Proto: s.Probe.Proto, Took: t.Took}
	there, back := s.visits(t.Seen, false), s.visits(t.Seen, true)
	f.There, f.Back = s.tell(there), s.tell(back)
	if leaves := sourceAfter(there, back); leaves != "" {
		f.There = append(f.There, Sight{Where: hostName, What: leaves})
	}
	switch lost, late := dropped(f.There), dropped(f.Back); {
	case lost != nil:
		f.Fate, f.Why, f.Hint = "dropped", "dropped by "+decider(*lost), s.hint(*lost)
	case t.Answered:
		f.Fate = "answered"
	case late != nil:
		f.Fate, f.Why, f.Hint = "dropped", "the answer is dropped by "+decider(*late), s.hint(*late)
	case t.Refused:
		f.Fate, f.Why = "refused", "refused: nobody listens there"
	case t.Why != "":
		f.Fate, f.Why, f.Hint = "unreachable", t.Why, s.explained()
		if len(f.There) > 0 {
			f.Why = "its sender is told: " + t.Why
		}
	default:
		f.Fate, f.Why, f.Hint = "silent", s.silence(f), cmp.Or(s.explained(), s.Helpless)
	}
	return f
}

// visit is a packet's way through one base chain.
type visit struct {
	kernel.Sighting // the first of it, with the packet's headers
	said            []kernel.Sighting
}

// visits returns those of the first packet of a direction, in order: the sender's namespace
// first of what is sent, last of what comes back.
func (s Scene) visits(seen []kernel.Sighting, back bool) (out []visit) {
	order := []kstate.NS{s.Probe.From, {}, s.Probe.Near}
	if back {
		slices.Reverse(order)
	}
	for i, ns := range order {
		if !slices.Contains(order[:i], ns) && (i == 0 || !ns.IsHost() || !slices.ContainsFunc(order[:i], kstate.NS.IsHost)) {
			out = append(out, first(seen, ns, back)...)
		}
	}
	return out
}

// first returns what was said in one namespace of the first packet: the next is there when a
// packet comes by where one came by before.
func first(seen []kernel.Sighting, ns kstate.NS, back bool) (out []visit) {
	type gate struct{ table, chain, in string }
	been := map[gate]bool{}
	for _, s := range seen {
		if s.NS != ns || s.Back != back {
			continue
		}
		if n := len(out); !s.Headed && n > 0 && out[n-1].Table == s.Table {
			out[n-1].said = append(out[n-1].said, s)
			continue
		}
		at := gate{s.Table.String(), s.Chain, s.In}
		if s.Own && been[at] {
			return out
		}
		been[at] = s.Own
		out = append(out, visit{s, []kernel.Sighting{s}})
	}
	return out
}

// tell puts visits into words. Where the packet came by is told once a device, and what
// was rewritten where it shows first.
func (s Scene) tell(all []visit) (out []Sight) {
	var last visit
	came := "\x00" // no device has the name
	for _, v := range all {
		where := s.where(v.NS)
		if v.NS != last.NS {
			came = "\x00"
		}
		if what := rewritten(last, v); what != "" && v.NS == last.NS {
			out = append(out, Sight{Where: where, What: what})
		}
		if v.Headed {
			last = v
		}
		switch {
		case v.Own && v.In == came:
		case v.Own:
			came = v.In
			out = append(out, Sight{Where: where, In: v.In, Out: v.Out, Hook: v.Hook, What: arrival(v)})
		default:
			out = append(out, s.verdict(where, v))
		}
	}
	return out
}

func (s Scene) where(ns kstate.NS) string {
	if name := s.Names[ns]; name != "" {
		return name
	}
	return hostName
}

// arrival says which packet came by.
func arrival(v visit) string {
	verb := "comes in"
	if v.In == "" {
		verb = "is sent"
	}
	if v.Table.Family == "bridge" {
		verb += " to the bridge"
	}
	return fmt.Sprintf("%s: %s", verb, packetText(v))
}

func packetText(v visit) string { return pointText(v.Src) + " -> " + pointText(v.Dst) }

// pointText is an address with its port, if it has one.
func pointText(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return fmt.Sprintf("%s port %d", a.Addr(), a.Port())
}

// rewritten says what is other in a packet than where it was seen before.
func rewritten(a, b visit) string {
	if !a.Headed || !b.Headed {
		return ""
	}
	var list []string
	if a.Src != b.Src {
		list = append(list, fmt.Sprintf("source %s becomes %s", pointText(a.Src), pointText(b.Src)))
	}
	if a.Dst != b.Dst {
		list = append(list, fmt.Sprintf("destination %s becomes %s", pointText(a.Dst), pointText(b.Dst)))
	}
	return strings.Join(list, ", ")
}

// sourceAfter says as what a packet left that came back to another address than it had.
func sourceAfter(there, back []visit) string {
	i := slices.IndexFunc(back, func(v visit) bool { return v.Headed && v.NS.IsHost() })
	j := len(there) - 1
	for j >= 0 && !(there[j].Headed && there[j].NS.IsHost()) {
		j--
	}
	if i < 0 || j < 0 || back[i].Dst == there[j].Src || back[i].Proto != there[j].Proto || back[i].Src != there[j].Dst {
		return ""
	}
	return fmt.Sprintf("source %s leaves as %s", pointText(there[j].Src), pointText(back[i].Dst))
}

// verdict puts a base chain's word into words: the jumps on the way, and what decided.
func (s Scene) verdict(where string, v visit) Sight {
	end := v.said[len(v.said)-1]
	out := Sight{Where: where, In: v.In, Out: v.Out, Table: v.Table.Family + " " + v.Table.Name, Chain: end.Chain,
		Hook: v.Hook, Prio: v.Priority, Rule: end.Rule, Handle: end.Handle, Verdict: end.Verdict, Owner: s.owner(v)}
	out.Problem = end.Verdict == "drop"
	var path []string
	for _, w := range v.said {
		if text := wordText(w); text != "" {
			path = append(path, text)
		}
	}
	out.What = fmt.Sprintf("%s %d: %s: %s", cmp.Or(v.Hook, "chain"), v.Priority, out.Table, strings.Join(path, "; "))
	if out.Owner != owner {
		out.What += " (" + out.Owner + ")"
	}
	return out
}

// wordText is what a rule or policy did; "" of a rule that let the packet go on.
func wordText(s kernel.Sighting) string {
	switch {
	case s.Ends == "policy":
		return s.Chain + ": policy " + s.Verdict
	case s.Verdict == "continue" || s.Handle == 0:
		return ""
	}
	if s.Table.Name == tableName && s.Rule != "" { // as it is written, mostly with its verdict
		text := s.Chain + ": " + s.Rule
		if s.Rule != s.Verdict && !strings.HasSuffix(s.Rule, " "+s.Verdict) {
			text += ": " + s.Verdict
		}
		return text
	}
	text := fmt.Sprintf("%s rule %d", s.Chain, s.Number)
	if s.Number == 0 {
		text = s.Chain + " rule"
	}
	text += fmt.Sprintf(" (handle %d)", s.Handle)
	if s.Rule != "" {
		text += fmt.Sprintf(" %q", s.Rule)
	}
	return text + ": " + s.Verdict
}

func dropped(all []Sight) *Sight {
	if n := len(all); n > 0 && all[n-1].Problem {
		return &all[n-1]
	}
	return nil
}

// decider is who dropped a packet.
func decider(s Sight) string {
	by := "the policy of chain " + s.Chain
	if s.Handle != 0 {
		by = fmt.Sprintf("rule with handle %d of chain %s", s.Handle, s.Chain)
		if s.Rule != "" {
			by = fmt.Sprintf("rule %q (handle %d) of chain %s", s.Rule, s.Handle, s.Chain)
		}
	}
	text := fmt.Sprintf("%s of table %s, %s", by, s.Table, s.Owner)
	if s.Where != hostName {
		text += ", in " + s.Where
	}
	return text
}

// silence says where a probe was seen last.
func (s Scene) silence(f Followed) string {
	if n := len(f.Back); n > 0 {
		return "an answer was seen last " + seenAt(f.Back[n-1]) + ", and did not arrive"
	}
	if len(f.There) == 0 {
		return "no chain saw it: it did not leave its sender"
	}
	last := f.There[len(f.There)-1]
	text := "it was seen last " + seenAt(last)
	switch {
	case last.Where == hostName && last.Hook == "forward" && !strings.HasPrefix(last.Table, "bridge "):
		return text + ", at hook forward and not at postrouting: what stops it is not in nftables"
	case last.Where == hostName && last.Hook == "prerouting":
		return text + ", at hook prerouting and not after it: the host has no route, or its source is not reached by that device"
	case s.Beyond && last.Where == hostName && last.Out != "":
		return text + ", and no answer came: what becomes of it beyond this host is not to be seen here"
	case f.Proto == "udp":
		return text + ", and no answer came, which UDP need not give"
	}
	return text + ", and no answer came"
}

func seenAt(s Sight) string {
	text := "in " + s.Where
	if s.Where == hostName {
		text = "on the host"
	}
	switch {
	case s.Out != "":
		text += ", leaving by " + s.Out
	case s.In != "":
		text += ", coming in by " + s.In
	}
	return text
}

// explained is a hint at what Explain found.
func (s Scene) explained() string {
	if s.Why == "" {
		return ""
	}
	return "sealane explain says: " + s.Why
}
