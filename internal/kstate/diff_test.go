package kstate_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// change returns s with the objects in the place of those with their keys.
func change(s kstate.Set, objs ...kstate.Object) kstate.Set {
	out := kstate.Set{}
	for k, o := range s {
		out[k] = o
	}
	for _, o := range objs {
		out[o.Key()] = o
	}
	return out
}

// less returns s without objects.
func less(s kstate.Set, objs ...kstate.Object) kstate.Set {
	out := change(s)
	for _, o := range objs {
		delete(out, o.Key())
	}
	return out
}

func foreign(l kstate.Link) kstate.Link { l.Other = true; return l }

func TestDiff(t *testing.T) {
	// A host with one network, one sandbox, one published port.
	var (
		ns     = kstate.NetNS{NS: web}
		br     = bridge("slb1")
		v      = veth("slv1", "slb1", web, "eth0")
		gw     = addr(host, "slb1", "192.0.2.1/24")
		own    = addr(web, "eth0", "192.0.2.2/24")
		own6   = addr(web, "eth0", "2001:db8::2/64")
		def    = route(web, "0.0.0.0/0", "192.0.2.1", "eth0")
		def6   = route(web, "::/0", "2001:db8::1", "eth0")
		chain  = kstate.Chain{Table: table, Name: "publish", Rules: []string{"drop"}}
		port   = kstate.Elem{Set: ports, At: "tcp . 80", Value: "192.0.2.2 . 80"}
		member = kstate.Elem{Set: bridges, At: "slb1"}
		hold   = kstate.Hold{Proto: "tcp", First: 80, Last: 80}
		fwd    = kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"}
		file   = kstate.File{Path: "/run/sealane/hosts", Content: "a"}
		guest  = kstate.Guest{Table: kstate.Table{Family: "ip", Name: "filter"}, Chain: "FORWARD", At: "first", Rule: "accept"}
		all    = set(ns, br, v, gw, own, own6, def, def6, table, *bridges, *ports, chain, port, member, hold, fwd, file)
	)
	mtu, down, noMaster, renamed, typ := br, br, v, v, *ports
	mtu.MTU, down.Up, noMaster.Master, renamed.Peer.Name, typ.Data = 1400, false, "", "eth1", "ipv4_addr"
	auto := kstate.Link{Name: "slb1", Type: kstate.TypeBridge, Up: true}
	rules, hook, moved := chain, chain, port
	rules.Rules, hook.Type, hook.Hook, moved.Value = []string{"return"}, "filter", "input", "192.0.2.3 . 80"
	via, own3, other := def, addr(web, "eth0", "192.0.2.3/24"), def
	via.Via, other.Other = own3.Prefix.Addr(), true
	side, rate, sideRate := kstate.Link{Name: "sli1", Type: kstate.TypeIFB, Up: true}, kstate.Shaper{Dev: "slv1", Rate: 1}, kstate.Shaper{Dev: "sli1", Rate: 1}
	turn, lost, faster := kstate.Redirect{Dev: "slv1", To: "sli1"}, kstate.Redirect{Dev: "slv1"}, kstate.Shaper{Dev: "slv1", Rate: 2}
	theirs := addr(host, "br0", "192.0.2.1/24")
	theirs.Other = true

	for _, c := range []struct {
		name       string
		have, want kstate.Set
		ops        string
	}{
		{"nothing to do", all, all, ""},
		{"all at once, by rank", nil, all, `
			+ netns web
			+ link slb1
			+ link slv1
			+ sysctl net.ipv4.ip_forward
			+ addr slb1 192.0.2.1/24
			+ addr web eth0 192.0.2.2/24
			+ addr web eth0 2001:db8::2/64
			+ route web 0.0.0.0/0
			+ route web ::/0
			+ hold tcp *:80
			+ table inet sealane
			+ set inet sealane bridges
			+ set inet sealane ports4
			+ chain inet sealane publish
			+ elem inet sealane bridges slb1
			+ elem inet sealane ports4 tcp . 80
			+ file /run/sealane/hosts`},
		{"and back; what goes along gets no op", all, nil, `
			- file /run/sealane/hosts
			- table inet sealane
			- hold tcp *:80
			- sysctl net.ipv4.ip_forward
			- link slb1
			- netns web`},
		{"removals go before additions", set(gw, br), set(addr(host, "slb1", "192.0.2.9/24"), br, bridge("slb0")), `
			- addr slb1 192.0.2.1/24
			+ link slb0
			+ addr slb1 192.0.2.9/24`},
		{"a bridge before its ports, whatever the names", nil, set(veth("aaa", "slb1", host, "bbb"), br), `
			+ link slb1
			+ link aaa`},
		{"ports are removed before the bridge", set(veth("aaa", "slb1", host, "bbb"), br), nil, `
			- link aaa
			- link slb1`},

		{"forwarding after accept_ra", nil, set(kstate.Sysctl{Name: "net.ipv6.conf.all.forwarding"}, kstate.Sysctl{Name: "net.ipv6.conf.eth0.accept_ra"}), `
			+ sysctl net.ipv6.conf.eth0.accept_ra
			+ sysctl net.ipv6.conf.all.forwarding`},

		{"in place", all, change(all, mtu, noMaster, rules, kstate.Sysctl{Name: fwd.Name, Value: "2"}, kstate.File{Path: file.Path}), `
			~ link slb1
			~ link slv1
			~ sysctl net.ipv4.ip_forward
			~ chain inet sealane publish
			~ file /run/sealane/hosts`},
		{"what is left to the kernel", all, change(all, auto), ""},
		{"alias and index do not count", set(br), set(kstate.Link{Name: br.Name, Type: br.Type, MTU: br.MTU, MAC: br.MAC, Up: true, Alias: "a", Index: 9}), ""},

		{"a link that is remade takes both its ends along", all, change(less(all, own, own6, def, def6), renamed), `
			- link slv1
			+ link slv1`},
		{"and what is wanted of that is made again", set(ns, v, own, def, addr(host, "slv1", "192.0.2.7/24")),
			set(ns, renamed, addr(web, "eth1", "192.0.2.2/24"), addr(host, "slv1", "192.0.2.7/24")), `
			- link slv1
			+ link slv1
			+ addr slv1 192.0.2.7/24
			+ addr web eth1 192.0.2.2/24`},
		{"a far end that another link takes over", set(ns, v, own, def), set(ns, veth("slv2", "", web, "eth0"), own, def), `
			- link slv1
			+ link slv2
			+ addr web eth0 192.0.2.2/24
			+ route web 0.0.0.0/0`},
		{"a namespace that goes, and the element of its port", all, less(all, ns, v, own, own6, def, def6, port), `
			- elem inet sealane ports4 tcp . 80
			- netns web`},
		{"a namespace that is gone already", less(all, ns, v, own, own6, def, def6), all, `
			+ netns web
			+ link slv1
			+ addr web eth0 192.0.2.2/24
			+ addr web eth0 2001:db8::2/64
			+ route web 0.0.0.0/0
			+ route web ::/0`},
		{"an element with another value", all, change(all, moved), `
			- elem inet sealane ports4 tcp . 80
			+ elem inet sealane ports4 tcp . 80`},
		{"which is one transaction, before what goes", set(table, *ports, port, hold, br), set(table, *ports, moved), `
			- elem inet sealane ports4 tcp . 80
			+ elem inet sealane ports4 tcp . 80
			- hold tcp *:80
			- link slb1`},
		{"and after what comes", set(table, *ports, port, br), set(table, *ports, moved, hold, file), `
			- link slb1
			+ hold tcp *:80
			- elem inet sealane ports4 tcp . 80
			+ elem inet sealane ports4 tcp . 80
			+ file /run/sealane/hosts`},
		{"a route with another gateway", all, change(all, via), `
			- route web 0.0.0.0/0
			+ route web 0.0.0.0/0`},

		{"rates of a device, by rank", set(ns, v), set(ns, v, side, rate, sideRate, turn), `
			+ link sli1
			+ shaper sli1
			+ shaper slv1
			+ redirect slv1`},
		{"they go before the device beside it", set(ns, v, side, rate, sideRate, turn), set(ns, v), `
			- redirect slv1
			- shaper slv1
			- link sli1`},
		{"a device takes them along", set(ns, v, side, rate, sideRate, turn), set(ns), `
			- link slv1
			- link sli1`},
		{"a device that is remade has them again", set(ns, v, side, rate, sideRate, turn), set(ns, renamed, side, rate, sideRate, turn), `
			- link slv1
			+ link slv1
			+ shaper slv1
			+ redirect slv1`},
		{"a redirect that lost its way, and another rate", set(ns, v, rate, lost), set(ns, v, side, faster, sideRate, turn), `
			+ link sli1
			+ shaper sli1
			~ shaper slv1
			~ redirect slv1`},

		{"the last IPv4 address takes IPv4 routes along", all, change(less(all, own), own3), `
			- addr web eth0 192.0.2.2/24
			+ addr web eth0 192.0.2.3/24
			+ route web 0.0.0.0/0`},
		{"for good if they are not wanted", all, less(all, own, def), `
			- addr web eth0 192.0.2.2/24`},
		{"not so while another stays", change(all, own3), all, `
			- addr web eth0 192.0.2.3/24`},
		{"nor with IPv6", all, less(all, own6), `
			- addr web eth0 2001:db8::2/64`},
		{"a device set down loses routes and IPv6 addresses", set(br, gw, addr(host, "slb1", "2001:db8::1/64"), route(host, "198.51.100.0/24", "192.0.2.9", "slb1")),
			set(down, gw, addr(host, "slb1", "2001:db8::1/64")), `
			~ link slb1
			+ addr slb1 2001:db8::1/64`},

		{"a table is replaced whole when a set must go, without a gap", all, less(change(all, bridge("slb2")), *bridges, member), `
			+ link slb2
			- table inet sealane
			+ table inet sealane
			+ set inet sealane ports4
			+ chain inet sealane publish
			+ elem inet sealane ports4 tcp . 80`},
		{"when a set changes", less(all, *bridges, member), less(change(all, typ), *bridges, member), `
			- table inet sealane
			+ table inet sealane
			+ set inet sealane ports4
			+ chain inet sealane publish
			+ elem inet sealane ports4 tcp . 80`},
		{"when a chain must go", set(table, chain, *bridges, member), set(table, *bridges, member), `
			- table inet sealane
			+ table inet sealane
			+ set inet sealane bridges
			+ elem inet sealane bridges slb1`},
		{"when a chain gets another hook", set(table, chain), set(table, hook), `
			- table inet sealane
			+ table inet sealane
			+ chain inet sealane publish`},
		{"a new set or chain needs none of that", set(table), set(table, chain, *bridges), `
			+ set inet sealane bridges
			+ chain inet sealane publish`},
		{"elements of a table that is not in the fragment", set(port), set(member), `
			- elem inet sealane ports4 tcp . 80
			+ elem inet sealane bridges slb1`},

		{"a guest comes last and goes first", set(table, member), set(table, member, guest), `
			+ guest ip filter FORWARD accept`},
		{"and does not mind where in its chain it is", set(guest), set(kstate.Guest{Table: guest.Table, Chain: guest.Chain, At: "last", Rule: guest.Rule}), ""},
		{"nor a new table of ours", set(table, *ports, guest), set(table, typ, guest), `
			- table inet sealane
			+ table inet sealane
			+ set inet sealane ports4`},
		{"a guest goes before what it lets pass", set(table, *bridges, member, guest), set(table, *bridges), `
			- guest ip filter FORWARD accept
			- elem inet sealane bridges slb1`},
		{"foreign objects stay", set(foreign(br), theirs, other, kstate.NetNS{NS: given, Other: true}), nil, ""},
		{"a foreign object that is as wanted will do", set(theirs), set(addr(host, "br0", "192.0.2.1/24")), ""},
		{"a foreign object in the way is for Apply to tell", set(foreign(br)), set(mtu), `
			+ link slb1`},
		{"a foreign route that is as wanted will do", set(ns, v, own, other), set(ns, v, own, def), ""},
		{"but not one that goes with its device", set(ns, v, own, other), set(ns, renamed, own, def), `
			- link slv1
			+ link slv1
			+ addr web eth0 192.0.2.2/24
			+ route web 0.0.0.0/0`},
		{"nor one by another gateway", set(ns, v, own, other), set(ns, v, own, via), `
			+ route web 0.0.0.0/0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, want := keys(kstate.Diff(c.have, c.want)), strings.ReplaceAll(c.ops, "\t", ""); got != want {
				t.Errorf("ops are%s\nwant%s", got, want)
			}
		})
	}
}

// keys prints ops short: what is done to which key.
func keys(ops []kstate.Op) string {
	kinds := map[kstate.Kind]string{
		kstate.KindNetNS: "netns", kstate.KindLink: "link", kstate.KindSysctl: "sysctl", kstate.KindAddr: "addr", kstate.KindRoute: "route",
		kstate.KindShaper: "shaper", kstate.KindRedirect: "redirect", kstate.KindHold: "hold", kstate.KindTable: "table", kstate.KindSet: "set",
		kstate.KindChain: "chain", kstate.KindElem: "elem", kstate.KindGuest: "guest", kstate.KindFile: "file", kstate.KindChoice: "choice", kstate.KindChooser: "chooser",
	}
	var b strings.Builder
	for _, op := range ops {
		k := op.Object().Key()
		id := strings.TrimPrefix(strings.TrimSpace(strings.ReplaceAll(k.ID, "/run/sealane/netns/", "")), "hold ")
		b.WriteString("\n" + op.String()[:2] + kinds[k.Kind] + " " + id)
	}
	return b.String()
}

// twin is a kernel in memory with what leads it to another state.
type twin struct {
	k    *fake.Kernel
	lead func(have, want kstate.Set) []kstate.Op
	torn bool // ops of nftables did not all follow each other
}

// torn reports whether what is changed in nftables is more than one transaction.
func torn(ops []kstate.Op) bool {
	runs, in := 0, false
	for _, op := range ops {
		k := op.Object().Key().Kind
		is := k >= kstate.KindTable && k <= kstate.KindElem
		if is && !in {
			runs++
		}
		in = is
	}
	return runs > 1
}

func (w *twin) reach(t *testing.T, want kstate.Set) int {
	t.Helper()
	var scope kernel.Scope
	for i := range 4 {
		scope.NS = append(scope.NS, kstate.NS{Path: "/run/netns/sandbox" + string(rune('0'+i))})
	}
	have, err := w.k.Observe(context.Background(), scope)
	if err != nil {
		t.Fatal(err)
	}
	ops := w.lead(have, want)
	w.torn = w.torn || torn(ops)
	if err := w.k.Apply(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
	return len(ops)
}

// slow is Diff's slow twin: remove everything, make everything. What is in a
// table goes with it.
func slow(have, want kstate.Set) []kstate.Op {
	var ops []kstate.Op
	for _, o := range have.Sorted() {
		if k := o.Key().Kind; !kstate.Foreign(o) && (k <= kstate.KindTable || k >= kstate.KindFile) {
			ops = append([]kstate.Op{{Old: o}}, ops...)
		}
	}
	for _, o := range want.Sorted() {
		ops = append(ops, kstate.Op{New: o})
	}
	return ops
}

func TestDiffAgainstItsSlowTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	fast := twin{k: fake.New(&journal.Memory{}), lead: kstate.Diff}
	plain := twin{k: fake.New(&journal.Memory{}), lead: slow}
	for i := range 200 {
		before := fast.k.Dump()
		want := kerneltest.Random(rng, "/run")
		if n, m := fast.reach(t, want), plain.reach(t, want); n > m {
			t.Errorf("%d ops, the slow way takes %d", n, m)
		}
		if a, b := fast.k.Dump(), plain.k.Dump(); a != b {
			t.Fatalf("round %d, from\n%s\nDiff leads to\n%s\nits twin to\n%s", i, before, a, b)
		}
		if again := fast.reach(t, want); again != 0 {
			t.Fatalf("round %d: %d ops are left", i, again)
		}
	}
	if fast.torn {
		t.Error("a packet may meet half of a change")
	}
}

// TestDiffOfMany: many ops, of which two halves are sorted at once, are in order.
func TestDiffOfMany(t *testing.T) {
	have, want := kstate.Set{}, kstate.Set{}
	for i := range 20000 {
		o := kstate.Sysctl{Name: fmt.Sprintf("net.%d", i*7919%20011), Value: "1"}
		if i%3 != 0 {
			have[o.Key()] = o
		}
		if o.Value = fmt.Sprint(i % 4); i%3 != 1 {
			want[o.Key()] = o
		}
	}
	ops := kstate.Diff(have, want)
	removals := slices.IndexFunc(ops, func(op kstate.Op) bool { return op.New != nil })
	if key := func(op kstate.Op) string { return op.Object().Key().ID }; !slices.IsSortedFunc(ops[removals:], func(a, b kstate.Op) int { return cmp.Compare(key(a), key(b)) }) ||
		!slices.IsSortedFunc(ops[:removals], func(a, b kstate.Op) int { return cmp.Compare(key(b), key(a)) }) {
		t.Error("they are in no order")
	}
	for _, op := range ops {
		if delete(have, op.Object().Key()); op.New != nil {
			have[op.New.Key()] = op.New
		}
	}
	if !maps.Equal(have, want) {
		t.Error("they do not lead there")
	}
}
