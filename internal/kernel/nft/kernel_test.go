package nft

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// open returns a connection to a network namespace that dies with the test:
// its only thread is the test's, which is never used again.
func open(t testing.TB) *Conn {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	c, err := Open(-1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// run starts the nft command, in the namespace of the test's thread.
func run(t testing.TB, script string) string {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, script)
	}
	return string(out)
}

func apply(t testing.TB, c *Conn, ops ...kstate.Op) {
	t.Helper()
	if err := c.Apply(ops); err != nil {
		t.Fatal(err)
	}
}

// fails demands that the ops fail, for the op at position at.
func fails(t testing.TB, c *Conn, at int, ops ...kstate.Op) error {
	t.Helper()
	err := c.Apply(ops)
	var op *kernel.OpError
	if !errors.As(err, &op) {
		t.Fatalf("apply: got %v, want an OpError", err)
	}
	if op.Op.String() != ops[at].String() {
		t.Fatalf("apply: error is about %q, want %q: %v", op.Op, ops[at], err)
	}
	return err
}

func lines(objs []kstate.Object) []string {
	var out []string
	for _, o := range objs {
		out = append(out, o.String())
	}
	slices.Sort(out)
	return out
}

// holds demands that exactly objs are there.
func holds(t testing.TB, c *Conn, objs ...kstate.Object) {
	t.Helper()
	got, err := c.Observe()
	if err != nil {
		t.Fatal(err)
	}
	g, w := lines(got), lines(objs)
	only(t, "there, not wanted", g, w)
	only(t, "wanted, not there", w, g)
}

// only reports what is in sorted a more often than in sorted b.
func only(t testing.TB, what string, a, b []string) {
	t.Helper()
	for _, l := range a {
		for len(b) > 0 && b[0] < l {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != l {
			t.Errorf("%s: %s", what, l)
		} else {
			b = b[1:]
		}
	}
}

func TestFirewall(t *testing.T) {
	c := open(t)
	all := append(corpus(), corpusElems()...)
	apply(t, c, kerneltest.Adds(all...)...)
	holds(t, c, all...)
	apply(t, c, kerneltest.Adds(all...)...) // again, in silence
	holds(t, c, all...)
	apply(t, c, append(kerneltest.Dels(tableObj), kerneltest.Adds(all...)...)...) // anew, in one go
	holds(t, c, all...)
	apply(t, c, kerneltest.Dels(tableObj)...)
	holds(t, c)
}

// TestBareRedirect: the kernel takes what nft does not.
func TestBareRedirect(t *testing.T) {
	c := open(t)
	sets := []kstate.Object{tableObj, *newSet("proxy4", "inet_proto . inet_service", "", false), *newSet("proxy_at6", "ipv6_addr . inet_proto . inet_service", "", false)}
	proxy := base("proxy", "nat", "prerouting", -100,
		"meta nfproto ipv4 meta l4proto . th dport @proxy4 redirect to :4000",
		"ip6 daddr . meta l4proto . th dport @proxy_at6 redirect to :4000")
	apply(t, c, kerneltest.Adds(append(sets, proxy)...)...)
	holds(t, c, append(sets, proxy)...)
}

func TestBridgeTable(t *testing.T) {
	c := open(t)
	all := bridgeCorpus()
	apply(t, c, kerneltest.Adds(all...)...)
	holds(t, c, all...)
}

func TestAtomic(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	ops := kerneltest.Adds(elem(ports4, "tcp . 80", "192.0.2.2 . 80"), elem(bridges, "sl1", ""),
		elem(ingress, "sl1", "jump nowhere"), elem(bridges, "sl2", ""))
	if err := fails(t, c, 2, ops...); !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	holds(t, c, corpus()...)

	ops = append(kerneltest.Dels(tableObj), kerneltest.Adds(tableObj, chain("c", "goto nowhere"))...)
	if err := fails(t, c, 2, ops...); !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	holds(t, c, corpus()...)
}

func TestErrors(t *testing.T) {
	c := open(t)
	for _, o := range []kstate.Object{*bridges, chain("c"), elem(bridges, "sl1", "")} {
		if err := fails(t, c, 0, kerneltest.Adds(o)...); !errors.Is(err, kernel.ErrMissing) {
			t.Errorf("%s without its table: got %v, want ErrMissing", o, err)
		}
	}
	apply(t, c, kerneltest.Adds(corpus()...)...)
	for _, o := range []kstate.Object{*bridges, chain("publish")} {
		if err := fails(t, c, 0, kerneltest.Dels(o)...); !errors.Is(err, kernel.ErrInUse) {
			t.Errorf("removal of %s: got %v, want ErrInUse", o, err)
		}
	}
	if err := fails(t, c, 0, kerneltest.Adds(chain("x", "iifname @nosuch drop"))...); !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("rule with a set that is missing: %v", err)
	}
	fails(t, c, 0, kerneltest.Adds(kstate.NftSet{Table: tableObj, Name: "bridges", Type: "mark"})...)
	fails(t, c, 0, kerneltest.Adds(kstate.Sysctl{Name: "a", Value: "b"})...)
	fails(t, c, 1, kerneltest.Adds(elem(bridges, "sl1", ""), elem(bridges, "a name far too long", ""))...)
	fails(t, c, 1, kerneltest.Adds(chain("x"), chain("y", "nonsense"))...)
	fails(t, c, 0, kstate.Op{Old: elem(bridges, "a", ""), New: elem(bridges, "a", "")})
	holds(t, c, corpus()...)
}

func TestOtherValue(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	var old []kstate.Object
	for i := range 10 {
		old = append(old, elem(ports4, fmt.Sprintf("tcp . %d", 80+i), "192.0.2.2 . 80"))
	}
	apply(t, c, kerneltest.Adds(old...)...)
	apply(t, c, kerneltest.Adds(old...)...)
	bad := slices.Clone(old)
	bad[6] = elem(ports4, "tcp . 86", "192.0.2.3 . 80")
	fails(t, c, 6, kerneltest.Adds(bad...)...)

	// Removing the old value in the same transaction makes room.
	apply(t, c, append(kerneltest.Dels(old[6]), kerneltest.Adds(bad[6])...)...)
	holds(t, c, append(corpus(), bad...)...)
}

func TestOverlap(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	have := []kstate.Object{
		elem(ranges4, "tcp . 80-90", "192.0.2.2"), elem(ranges4, "udp . 80-90", "192.0.2.2"),
		elem(masq4, "10.0.0.0/24", ""), elem(masq4, "10.0.2.0/24", ""),
	}
	apply(t, c, kerneltest.Adds(have...)...)
	for _, bad := range []kstate.Object{elem(ranges4, "tcp . 85-95", "192.0.2.3"), elem(masq4, "10.0.0.0/16", ""), elem(masq4, "10.0.2.0/25", "")} {
		fails(t, c, 1, kerneltest.Adds(elem(bridges, "x", ""), bad)...)
	}
	holds(t, c, append(corpus(), have...)...)
}

func TestStaleRemovals(t *testing.T) {
	c := open(t)
	apply(t, c, kerneltest.Dels(elem(bridges, "sl1", ""), *bridges, chain("forward"), tableObj)...)
	apply(t, c, kerneltest.Adds(corpus()...)...)
	var there, gone []kstate.Object
	for i := range 2000 {
		e := elem(ports4, fmt.Sprintf("tcp . %d", i), "192.0.2.2 . 80")
		if i%3 == 0 {
			gone = append(gone, e)
		} else {
			there = append(there, e)
		}
	}
	there = append(there, elem(masq4, "10.0.0.0/24", ""), elem(home4, "10.0.0.0/24 . sl1", ""))
	gone = append(gone, elem(masq4, "10.0.1.0/24", ""), elem(home4, "10.0.0.0/25 . sl1", ""), chain("nosuch"),
		kstate.NftSet{Table: tableObj, Name: "nosuch", Type: "mark"})
	apply(t, c, kerneltest.Adds(there...)...)
	apply(t, c, kerneltest.Dels(gone[:1]...)...)
	all := append(slices.Clone(there), gone...)
	extra := elem(bridges, "sl1", "")
	apply(t, c, append(kerneltest.Dels(all...), kerneltest.Adds(extra)...)...)
	holds(t, c, append(corpus(), extra)...)

	// A failure besides is told, though there are stale removals too.
	fails(t, c, 1, kstate.Op{Old: gone[0]}, kstate.Op{New: elem(ingress, "sl1", "goto nowhere")})
}

func TestRemoveChains(t *testing.T) {
	c := open(t)
	a, b := chain("a", "goto b"), chain("b", "drop")
	apply(t, c, kerneltest.Adds(tableObj, a, b)...)
	apply(t, c, kerneltest.Dels(chain("zz"), b, a)...)
	holds(t, c, tableObj)
}

func TestChangeChain(t *testing.T) {
	c := open(t)
	old := base("forward", "filter", "forward", 0, "counter drop", `accept comment "old"`)
	other := chain("other", "drop")
	apply(t, c, kerneltest.Adds(tableObj, old, other)...)
	changed := base("forward", "filter", "forward", 0, "iifname br0 accept", "goto other")
	apply(t, c, kstate.Op{Old: old, New: changed})
	holds(t, c, tableObj, other, changed)
	empty := base("forward", "filter", "forward", 0)
	apply(t, c, kstate.Op{Old: changed, New: empty})
	holds(t, c, tableObj, other, empty)
	// Another place needs another chain.
	fails(t, c, 0, kstate.Op{New: base("forward", "filter", "input", 0)})
}

func TestIntervals(t *testing.T) {
	c := open(t)
	spans := &kstate.NftSet{Table: tableObj, Name: "spans", Type: "inet_service", Data: "mark", Interval: true}
	have := []kstate.Object{
		tableObj, *masq4, *masq6, *spans,
		elem(masq4, "10.0.0.0/24", ""), elem(masq4, "10.0.1.0/24", ""), elem(masq4, "10.0.2.0", ""), elem(masq4, "10.0.2.1", ""),
		elem(masq4, "10.0.3.1-10.0.3.7", ""), elem(masq4, "0.0.0.0/8", ""), elem(masq4, "255.255.255.0/24", ""),
		elem(masq6, "::/0", ""),
		elem(spans, "0-79", "0x00000001"), elem(spans, "80", "0x00000002"), elem(spans, "81-65535", "0x00000003"),
	}
	apply(t, c, kerneltest.Adds(have...)...)
	holds(t, c, have...)
	apply(t, c, kerneltest.Adds(have...)...)
	apply(t, c, kerneltest.Dels(have[5], have[10], have[11], have[14])...)
	holds(t, c, slices.Concat(have[:5], have[6:10], have[12:14])...)
	// nft reads the same.
	out := list(t, "set", "inet", "sealane", "masq4")
	for _, o := range slices.Concat(have[4:5], have[6:10]) {
		if at := o.(kstate.Elem).At; !strings.Contains(out, at) {
			t.Errorf("nft does not list %s:\n%s", at, out)
		}
	}
	// nft puts an end at zero in sets that it fills.
	run(t, "delete table inet sealane; table inet sealane { set masq4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 10.0.1.0/24, 192.0.2.1 } }; }")
	holds(t, c, tableObj, *masq4, elem(masq4, "10.0.0.0/24", ""), elem(masq4, "10.0.1.0/24", ""), elem(masq4, "192.0.2.1", ""))
}

func TestEveryType(t *testing.T) {
	c := open(t)
	have := []kstate.Object{tableObj, chain("to_nat")}
	for i, e := range goodElems() {
		s := *e.Set
		s.Name = fmt.Sprintf("s%d", i)
		e.Set = &s
		have = append(have, s, e)
	}
	apply(t, c, kerneltest.Adds(have...)...)
	holds(t, c, have...)
	apply(t, c, kerneltest.Adds(have...)...)
	out := list(t, "ruleset")
	for _, o := range have {
		if e, ok := o.(kstate.Elem); ok && !strings.Contains(strings.ReplaceAll(out, `"`, ""), e.At) {
			t.Errorf("nft does not list %s", e)
		}
	}
	run(t, "flush ruleset;\n"+out)
	holds(t, c, have...)
}

func list(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", append([]string{"list"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft list: %v\n%s", err, out)
	}
	return string(out)
}

func TestForeign(t *testing.T) {
	c := open(t)
	forward := base("forward", "filter", "forward", 0, "drop")
	apply(t, c, kerneltest.Adds(tableObj, *bridges, forward)...)

	run(t, "add rule inet sealane forward ip saddr { 10.0.0.1, 10.0.0.2 } accept")
	got, err := c.Observe()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got, func(o kstate.Object) bool { return o.Key() == forward.Key() })
	seen := got[i].(kstate.Chain)
	if len(got) != 3 || len(seen.Rules) != 2 || !strings.HasPrefix(seen.Rules[1], "foreign rule handle ") {
		t.Errorf("after a foreign rule: %v", got)
	}
	apply(t, c, kstate.Op{Old: seen, New: forward})
	holds(t, c, tableObj, *bridges, forward)

	// Sets and chains of others show, in whatever form; Diff then replaces the table.
	run(t, `add set inet sealane s1 { type ipv4_addr; timeout 1h; }
		add set inet sealane s2 { type icmp_type . mark; }
		add element inet sealane s1 { 1.2.3.4 }
		add element inet sealane bridges { "x" timeout 0s }
		add chain inet sealane c1
		add chain inet sealane c2 { type filter hook input priority 5; policy drop; }
		add table inet other
		add set inet other bridges { type ifname; elements = { "y" }; }`)
	got, err = c.Observe()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"chain inet sealane c1 { }", "chain inet sealane c2 { type filter policy drop hook input priority 5; }",
		"element inet sealane bridges { x }",
		"set inet sealane s1 { type ipv4_addr flags 0x10; }", "set inet sealane s2 { type type-14 . mark flags 0x0; }",
	}
	for _, w := range append(want, lines(adds0(tableObj, *bridges, forward))...) {
		if !slices.Contains(lines(got), w) {
			t.Errorf("not observed: %s in\n%s", w, strings.Join(lines(got), "\n"))
		}
	}
	set := func(objs []kstate.Object) kstate.Set {
		s := kstate.Set{}
		if err := s.Add(objs...); err != nil {
			t.Fatal(err)
		}
		return s
	}
	wanted := adds0(tableObj, *bridges, forward)
	apply(t, c, kstate.Diff(set(got), set(wanted))...)
	holds(t, c, wanted...)

	// A table put to sleep is not there, and adding it wakes it.
	run(t, "add table inet sealane { flags dormant; }")
	got, err = c.Observe()
	if err != nil || len(got) != 0 {
		t.Errorf("dormant table: %v, %v", got, err)
	}
	apply(t, c, kstate.Diff(set(got), set(wanted))...)
	holds(t, c, wanted...)
}

func adds0(objs ...kstate.Object) []kstate.Object { return objs }

// A removed "*" is how a foreign catch-all element goes.
func TestCatchall(t *testing.T) {
	c := open(t)
	all := elem(ingress, "*", "drop")
	apply(t, c, kerneltest.Adds(tableObj, *ingress, all, elem(ingress, "x", "accept"))...)
	holds(t, c, tableObj, *ingress, all, elem(ingress, "x", "accept"))
	apply(t, c, kerneltest.Dels(all)...)
	holds(t, c, tableObj, *ingress, elem(ingress, "x", "accept"))
}

func TestLargeMap(t *testing.T) {
	c := open(t)
	all := append(corpus(), many(50000)...)
	apply(t, c, kerneltest.Adds(all...)...)
	holds(t, c, all...)
	apply(t, c, kerneltest.Dels(all[len(corpus()):]...)...)
	holds(t, c, corpus()...)
}

// many returns elements of two maps, n in all.
func many(n int) []kstate.Object {
	out := make([]kstate.Object, 0, n)
	for i := range n {
		to := fmt.Sprintf("10.%d.%d.%d . %d", i>>16, i>>8&255, i&255, i&0x7fff+1)
		set, proto := portsAt4, "tcp"
		if i%2 == 0 {
			proto = "udp"
		}
		out = append(out, elem(set, fmt.Sprintf("10.9.%d.%d . %s . %d", i>>8&255, i&255, proto, i%60000+1), to))
	}
	return out
}

// TestRoom: a set that comes with many elements is made for so many, and takes more later.
func TestRoom(t *testing.T) {
	c := open(t)
	all := many(3 * throng)
	at := len(all) - 2*throng
	apply(t, c, append(kerneltest.Adds(corpus()...), kerneltest.Adds(all[:at]...)...)...)
	if text := run(t, "list sets; list maps"); roomy() != strings.Contains(text, "size 4294967295") {
		t.Errorf("roomy: %v\n%.2000s", roomy(), text)
	}
	apply(t, c, kerneltest.Adds(all[at:]...)...)
	got, err := c.Observe()
	if err != nil {
		t.Fatal(err)
	}
	have := kstate.Set{}
	if err := have.Add(got...); err != nil {
		t.Fatal(err)
	}
	want := kstate.Set{}
	if err := want.Add(append(corpus(), all...)...); err != nil {
		t.Fatal(err)
	}
	if ops := kstate.Diff(have, want); len(ops) > 0 {
		t.Errorf("%d to do, the first %v", len(ops), ops[0])
	}
}
