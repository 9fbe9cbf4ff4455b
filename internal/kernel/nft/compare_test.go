package nft

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// These tests give the same texts to us and to nft, for two tables side by
// side, and compare what the kernel then has, byte by byte.

// script is objects in nft's syntax, in another table.
func script(objs []kstate.Object) string {
	var b strings.Builder
	for _, o := range objs {
		c, isChain := o.(kstate.Chain)
		rules := c.Rules
		if isChain {
			c.Rules = nil
			o = c
		}
		fmt.Fprintf(&b, "add %s\n", strings.Replace(o.String(), "sealane", "other", 1))
		for _, r := range rules {
			fmt.Fprintf(&b, "add rule %s other %s %s\n", c.Table.Family, c.Name, r)
		}
	}
	// Rules and elements jump to chains that come later.
	lines := strings.SplitAfter(b.String(), "\n")
	slices.SortStableFunc(lines, func(a, b string) int { return late(a) - late(b) })
	return strings.Join(lines, "")
}

func late(line string) int {
	if strings.HasPrefix(line, "add rule") || strings.HasPrefix(line, "add element") {
		return 1
	}
	return 0
}

// both loads objs into our table and, by nft, into the other.
func both(t *testing.T, objs []kstate.Object) *Conn {
	t.Helper()
	c := open(t)
	apply(t, c, kerneltest.Adds(objs...)...)
	run(t, script(objs))
	return c
}

func TestSameRules(t *testing.T) {
	more := []kstate.Object{tableObj}
	more = append(more, moreSets()...)
	for place, rules := range moreRules {
		typ, hook, _ := strings.Cut(place, " ")
		more = append(more, base(typ+hook, typ, hook, 0, rules...))
	}
	for name, objs := range map[string][]kstate.Object{"firewall": corpus(), "more": more, "bridge": bridgeCorpus(), "services": serviceCorpus(), "divert": divertCorpus(), "mesh": meshCorpus()} {
		t.Run(name, func(t *testing.T) {
			c := both(t, objs)
			family := objs[0].(kstate.Table).Family
			mine, nfts := rawRules(t, c, family, "sealane"), rawRules(t, c, family, "other")
			for _, o := range objs {
				if o, ok := o.(kstate.Chain); ok {
					sameRules(t, o, mine[o.Name], nfts[o.Name])
				}
			}
		})
	}
}

func sameRules(t *testing.T, c kstate.Chain, mine, nfts [][]byte) {
	t.Helper()
	if len(mine) != len(c.Rules) || len(nfts) != len(c.Rules) {
		t.Errorf("chain %s: %d rules are %d of ours and %d of nft's", c.Name, len(c.Rules), len(mine), len(nfts))
		return
	}
	for i := range mine {
		if !bytes.Equal(mine[i], nfts[i]) {
			t.Errorf("rule %q:\nours  %q\nnft's %q", c.Rules[i], mine[i], nfts[i])
		}
	}
}

// rawRules returns the expressions of a table's rules by chain, without the
// one that nft 1.0.6 puts after one-byte fields of joined intervals: a swap of
// the bytes of each 2 of 1 byte, which does nothing (nft_byteorder_eval).
func rawRules(t *testing.T, c *Conn, family, table string) map[string][][]byte {
	t.Helper()
	out := map[string][][]byte{}
	r := reader{conn: c}
	err := r.get(unix.NFT_MSG_GETRULE, kstate.Table{Family: family, Name: table}, unix.NFTA_RULE_TABLE, func(a attrs) {
		var kept []byte
		list := attrs(a.find(unix.NFTA_RULE_EXPRESSIONS))
		for _, e, ok := list.next(); ok; _, e, ok = list.next() {
			data := attrs(attrs(e).find(unix.NFTA_EXPR_DATA))
			if text(attrs(e).find(unix.NFTA_EXPR_NAME)) == "byteorder" && number(data.find(unix.NFTA_BYTEORDER_LEN)) == 1 {
				continue
			}
			kept = append(kept, e...)
		}
		chain := text(a.find(unix.NFTA_RULE_CHAIN))
		out[chain] = append(out[chain], kept)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSameSets(t *testing.T) {
	objs := slices.Concat(corpus(), corpusElems(), serviceCorpus()[2:], meshCorpus()[1:])
	for i, e := range goodElems() {
		s := *e.Set
		s.Name = fmt.Sprintf("s%d", i)
		e.Set = &s
		objs = append(objs, s, e)
	}
	c := both(t, objs)
	mine, nfts := rawSets(t, c, "sealane"), rawSets(t, c, "other")
	if len(mine) < 40 || len(mine) != len(nfts) {
		t.Errorf("%d sets of ours, %d of nft's", len(mine), len(nfts))
	}
	for name, lines := range mine {
		if !slices.Equal(lines, nfts[name]) {
			t.Errorf("set %s:\nours  %q\nnft's %q", name, lines, nfts[name])
		}
	}
}

// rawSets returns each set's attributes and elements, without what belongs to
// the table or is a note of nft's: userdata, also of an interval that is open
// above, and an element that nft puts at zero, so the number of elements too.
func rawSets(t *testing.T, c *Conn, table string) map[string][]string {
	t.Helper()
	skip := []int{unix.NFTA_SET_TABLE, unix.NFTA_SET_USERDATA, 16, 20} // 16: NFTA_SET_HANDLE, 20: NFTA_SET_COUNT
	out := map[string][]string{}
	r := reader{conn: c}
	from := kstate.Table{Family: "inet", Name: table}
	err := r.get(unix.NFT_MSG_GETSET, from, unix.NFTA_SET_TABLE, func(a attrs) {
		name := text(a.find(unix.NFTA_SET_NAME))
		for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
			if !slices.Contains(skip, typ) {
				out[name] = append(out[name], fmt.Sprintf("%d: %x", typ, v))
			}
		}
	})
	for name := range out {
		e := &c.ask
		e.buf = e.buf[:0]
		e.message(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFPROTO_INET, 0)
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, name)
		e.close()
		if err == nil {
			err = c.read.dump(e.buf, func(m reply) {
				list := attrs(m.attrs().find(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
				for _, el, ok := list.next(); ok; _, el, ok = list.next() {
					s := fmt.Sprintf("%x", el)
					if !zeroEnd.MatchString(s) {
						out[name] = append(out[name], strings.TrimSuffix(s, openEnd))
					}
				}
			})
		}
		slices.Sort(out[name])
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// zeroEnd is an element at zero flagged as the end of an interval.
var zeroEnd = regexp.MustCompile(`^[0-9a-f]{8}[0-9a-f]{8}(00)*0800030000000001$`)

// openEnd is an element's userdata with nft's flag SET_ELEM_F_INTERVAL_OPEN.
const openEnd = "0a0006000104010000000000"

// TestListing: nft lists our rules in the words they were given in, or as asNft
// says.
func TestListing(t *testing.T) {
	for name, objs := range map[string][]kstate.Object{
		"firewall": append(corpus(), corpusElems()...), "services": serviceCorpus(), "divert": divertCorpus(), "mesh": meshCorpus(),
	} {
		t.Run(name, func(t *testing.T) {
			c, family := open(t), objs[0].(kstate.Table).Family
			apply(t, c, kerneltest.Adds(objs...)...)
			for _, o := range objs {
				listedAs(t, o)
			}
			// What nft lists, nft loads.
			before := rawRules(t, c, family, "sealane")
			out := list(t, "ruleset")
			run(t, "flush ruleset;\n"+out)
			for name, rules := range rawRules(t, c, family, "sealane") {
				if !slices.EqualFunc(rules, before[name], bytes.Equal) {
					t.Errorf("chain %s is not the same after nft loaded its listing:\n%q\n%q", name, before[name], rules)
				}
			}
		})
	}
}

// asNft is what nft makes of our words: it leaves out "addr . port", which it
// does not need, and writes some numbers otherwise.
var asNft = strings.NewReplacer(" addr . port", "", "meta mark set 0", "meta mark set 0x00000000", "and 0x3fff", "& 16383", "and 0xfffff000 != 0x5ea10000", "!= 0x5ea10000/20")

func listedAs(t *testing.T, o kstate.Object) {
	t.Helper()
	switch o := o.(type) {
	case kstate.Chain:
		out := strings.ReplaceAll(list(t, "chain", o.Table.Family, "sealane", o.Name), `"`, "")
		at := 0
		for _, r := range o.Rules {
			r = asNft.Replace(r)
			i := strings.Index(out[at:], "\t"+r+"\n")
			if i < 0 {
				t.Fatalf("chain %s: nft does not list %q here:\n%s", o.Name, r, out[at:])
			}
			at += i
		}
	case kstate.Elem:
		word := strings.TrimSpace(strings.Fields(o.Set.String())[0])
		out := strings.ReplaceAll(list(t, word, o.Set.Table.Family, "sealane", o.Set.Name), `"`, "")
		if want := strings.TrimSuffix(o.At+" : "+o.Value, " : "); !strings.Contains(out, want) {
			t.Errorf("nft does not list %q:\n%s", want, out)
		}
	}
}

// TestSameTarget: nft 1.0.6 has no word for the target of neighbour discovery
// and takes it as so many bits of the transport header.
func TestSameTarget(t *testing.T) {
	c := open(t)
	b := kstate.Table{Family: "bridge", Name: "sealane"}
	source := kstate.NftSet{Table: b, Name: "source6", Type: "ifname . ether_addr . ipv6_addr"}
	mine := kstate.Chain{Table: b, Name: "c", Type: "filter", Hook: "prerouting", Rules: []string{
		"icmpv6 type nd-neighbor-advert icmpv6 taddr 2001:db8::1 accept",
		"icmpv6 type nd-neighbor-advert iifname . ether saddr . icmpv6 taddr @source6 accept",
		"icmpv6 taddr != fe80::1 drop",
	}}
	apply(t, c, kerneltest.Adds(b, source, mine, elem(&source, "br0 . 02:42:0a:00:00:02 . 2001:db8::2", ""))...)
	run(t, `table bridge other {
		set source6 { typeof iifname . ether saddr . @th,64,128; }
		chain c { type filter hook prerouting priority 0;
			icmpv6 type nd-neighbor-advert @th,64,128 0x20010db8000000000000000000000001 accept
			icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 @source6 accept
			ether type ip6 meta l4proto ipv6-icmp @th,64,128 != 0xfe800000000000000000000000000001 drop
		}
	}`)
	sameRules(t, mine, rawRules(t, c, "bridge", "sealane")["c"], rawRules(t, c, "bridge", "other")["c"])
}

// TestSameHalf: half of an address is looked up as nft does it, and nft lists it.
func TestSameHalf(t *testing.T) {
	c := open(t)
	b := kstate.Table{Family: "bridge", Name: "sealane"}
	source := kstate.NftSet{Table: b, Name: "source6", Type: "ifname . ether_addr . ipv6_addr"}
	const half = "iifname . ether saddr . ip6 saddr & ::ffff:ffff:ffff:ffff @source6 accept"
	mine := kstate.Chain{Table: b, Name: "c", Type: "filter", Hook: "prerouting", Rules: []string{half}}
	apply(t, c, kerneltest.Adds(b, source, mine)...)
	run(t, "table bridge other {\nset source6 { type ifname . ether_addr . ipv6_addr; }\nchain c { type filter hook prerouting priority 0;\n"+half+"\n}\n}")
	sameRules(t, mine, rawRules(t, c, "bridge", "sealane")["c"], rawRules(t, c, "bridge", "other")["c"])
	listedAs(t, mine)
}
