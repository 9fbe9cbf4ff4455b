package nft

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

const pass = "meta mark and 0x10000000 == 0x10000000 accept"

func guest(family, table, chain, at string) kstate.Guest {
	return kstate.Guest{Table: kstate.Table{Family: family, Name: table}, Chain: chain, At: at, Rule: pass}
}

// shell runs a command, in the namespace of the test's thread.
func shell(t testing.TB, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func seat(t testing.TB, c *Conn, ops ...kstate.Op) {
	t.Helper()
	if err := (Guests{c}).Apply(ops); err != nil {
		t.Fatal(err)
	}
}

// What Docker leaves in iptables, in its old and its new way, for both families.
const dockerRules = `
for ipt in iptables ip6tables; do
	$ipt -P FORWARD DROP && $ipt -N DOCKER-USER && $ipt -N DOCKER-FORWARD
	$ipt -A FORWARD -j DOCKER-USER && $ipt -A FORWARD -j DOCKER-FORWARD
	$ipt -A DOCKER-USER -s $([ $ipt = iptables ] && echo 192.0.2.66 || echo 2001:db8::66) -j DROP
	$ipt -A DOCKER-USER -j RETURN
	$ipt -A DOCKER-FORWARD -i docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done`

// TestGuestOfIptables: iptables lists, saves, restores and deletes its tables
// with our rule in them.
func TestGuestOfIptables(t *testing.T) {
	c := open(t)
	shell(t, dockerRules)
	const listed = `-A %s -m mark --mark 0x10000000/0x10000000 -m comment --comment "made by sealane" -j ACCEPT`
	for _, f := range []struct{ family, ipt string }{{"ip", "iptables"}, {"ip6", "ip6tables"}} {
		first, late := guest(f.family, "filter", "FORWARD", "first"), guest(f.family, "filter", "DOCKER-USER", "before-last")
		last := guest(f.family, "filter", "DOCKER-FORWARD", "before-last")
		before := shell(t, f.ipt+"-save | grep -v ^#")
		seat(t, c, kerneltest.Adds(first, late, last)...)
		seat(t, c, kerneltest.Adds(first, late, last)...) // again, in silence
		holds(t, c, first, late, last)
		lines := strings.Split(shell(t, f.ipt+" -S; "+f.ipt+"-save; "+f.ipt+" -L -n -v"), "\n")
		for _, chain := range []string{"FORWARD", "DOCKER-USER", "DOCKER-FORWARD"} {
			if i := slices.Index(lines, fmt.Sprintf(listed, chain)); i < 0 {
				t.Errorf("%s does not list the guest of %s:\n%s", f.ipt, chain, strings.Join(lines, "\n"))
			}
		}
		at := func(s string) int {
			return slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, s) })
		}
		if at("-A FORWARD -m mark") > at("-A FORWARD -j") || at("-A DOCKER-USER -m mark") < at("-A DOCKER-USER -s") ||
			at("-A DOCKER-USER -m mark") > at("-A DOCKER-USER -j RETURN") || at("-A DOCKER-FORWARD -m mark") < at("-A DOCKER-FORWARD -i") {
			t.Errorf("places:\n%s", strings.Join(lines, "\n"))
		}
		shell(t, f.ipt+` -C FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment "made by sealane" -j ACCEPT`)
		seat(t, c, kerneltest.Dels(first, late, last)...)
		seat(t, c, kerneltest.Dels(first, late, last)...)
		if after := shell(t, f.ipt+"-save | grep -v ^#"); after != before {
			t.Errorf("after the removal\n%s\nbefore\n%s", after, before)
		}
	}
	holds(t, c)
}

// TestGuestRewritten: a rule that others have written anew from their listing
// has lost our mark. It shows, the true one is put in its place, and goes.
func TestGuestRewritten(t *testing.T) {
	c := open(t)
	for name, rewrite := range map[string]string{
		"iptables": "iptables-save > $D/rules && iptables-restore < $D/rules",
		"nft":      "nft list ruleset | sed 1iflush\\ ruleset > $D/rules && nft -f $D/rules",
	} {
		shell(t, "nft flush ruleset; "+dockerRules)
		if name == "nft" {
			shell(t, "nft flush ruleset; nft 'table inet firewalld { chain FORWARD { type filter hook forward priority 10; reject; }; }'")
		}
		g := guest("ip", "filter", "FORWARD", "first")
		if name == "nft" {
			g = guest("inet", "firewalld", "FORWARD", "first")
		}
		seat(t, c, kerneltest.Adds(g)...)
		shell(t, "D="+t.TempDir()+"; "+rewrite)
		have, err := c.Observe()
		if err != nil {
			t.Fatal(err)
		}
		if len(have) != 1 || !strings.Contains(have[0].String(), "FORWARD: restored rule handle ") {
			t.Fatalf("%s: there is %v\n%s", name, have, list(t, "ruleset"))
		}
		seat(t, c, append(kerneltest.Dels(have...), kerneltest.Adds(g)...)...)
		holds(t, c, g)
		if n := strings.Count(list(t, "ruleset"), "0x10000000"); n != 2 { // in one rule
			t.Errorf("%s: the mark is there %d times\n%s", name, n, list(t, "ruleset"))
		}
	}
}

// TestGuestOfNftables: in a table made by nft the rule is one that nft writes.
func TestGuestOfNftables(t *testing.T) {
	c := open(t)
	run(t, `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state established accept; reject; }; }
		table ip mine { chain forward { type filter hook forward priority 0; policy drop; }; }`)
	a, b := guest("inet", "firewalld", "filter_FORWARD", "first"), guest("ip", "mine", "forward", "last")
	src := b
	src.Rule = "ip saddr 192.0.2.0/24 tcp dport 80 accept"
	seat(t, c, kerneltest.Adds(a, b, src)...)
	holds(t, c, a, b, src)
	out := list(t, "ruleset")
	for _, want := range []string{
		"policy accept;\n\t\tmeta mark & 0x10000000 == 0x10000000 accept comment \"made by sealane\"\n\t\tct state",
		"policy drop;\n\t\tmeta mark & 0x10000000 == 0x10000000 accept comment \"made by sealane\"\n\t\tip saddr 192.0.2.0/24 tcp dport 80 accept comment",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nft lists\n%s\nnot\n%s", out, want)
		}
	}
	// Expressions are nft's own, which knows that the table is of one family.
	run(t, `table ip other { chain forward { `+pass+`; ip saddr 192.0.2.0/24 tcp dport 80 accept; }; }`)
	mine, nfts := rawRules(t, c, "ip", "mine")["forward"], rawRules(t, c, "ip", "other")["forward"]
	sameRules(t, kstate.Chain{Name: "forward", Rules: []string{b.Rule, src.Rule}}, mine, nfts)
}

func TestGuestErrors(t *testing.T) {
	c := open(t)
	nowhere := guest("inet", "firewalld", "FORWARD", "first")
	missing := func() {
		t.Helper()
		for _, at := range []string{"first", "last", "before-last"} {
			g := nowhere
			g.At = at
			if err := (Guests{c}).Apply(kerneltest.Adds(g)); !errors.Is(err, kernel.ErrMissing) {
				t.Errorf("at %s: got %v, want ErrMissing", at, err)
			}
		}
		seat(t, c, kerneltest.Dels(nowhere)...)
	}
	missing()
	run(t, "add table inet firewalld")
	missing()
	run(t, "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }")
	missing()
	there := guest("inet", "firewalld", "filter_FORWARD", "last")
	// What fails keeps nothing else from being done.
	err := (Guests{c}).Apply(kerneltest.Adds(nowhere, there))
	var op *kernel.OpError
	if !errors.As(err, &op) || op.Op.String() != "+ "+nowhere.String() {
		t.Errorf("got %v", err)
	}
	holds(t, c, there)
	run(t, "delete chain inet firewalld filter_FORWARD")
	seat(t, c, kerneltest.Dels(there)...)
	holds(t, c)
	if err := (Guests{c}).Apply(kerneltest.Adds(tableObj)); err == nil {
		t.Error("a table is no guest")
	}
}

func TestBadGuests(t *testing.T) {
	for _, c := range []struct {
		guest kstate.Guest
		want  string
	}{
		{guest("bridge", "filter", "FORWARD", "first"), "want ip, ip6 or inet"},
		{guest("arp", "filter", "FORWARD", "first"), "want ip, ip6 or inet"},
		{guest("inet", "sealane", "forward", "first"), "is ours"},
		{guest("ip", "filter", "FORWARD", "second"), "want first, last"},
		{guest("ip", "filter", "", "first"), "0 bytes"},
		{guest("ip", "a b", "FORWARD", "first"), `character ' '`},
	} {
		if err := ParseGuest(c.guest); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", c.guest, err, c.want)
		}
	}
	for rule, want := range map[string]string{
		"": "no statement", "accept comment \"x\"": "a comment already", "jump x": "somebody else's", "iifname @x accept": "somebody else's",
		"ip6 saddr ::1 accept": "another address family", "restored rule handle 7": "want a selector",
	} {
		g := guest("ip", "filter", "FORWARD", "first")
		g.Rule = rule
		if err := ParseGuest(g); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", rule, err, want)
		}
	}
}

// TestGuestOfOwner: a table that belongs to a program, as firewalld's does with
// NftablesTableOwner, takes no guest.
func TestGuestOfOwner(t *testing.T) {
	c := open(t)
	owner, err := Open(-1)
	if err != nil {
		t.Fatal(err)
	}
	g := Guests{owner}
	e := g.batch()
	g.seq++
	e.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, unix.NFPROTO_INET, g.seq)
	e.str(unix.NFTA_TABLE_NAME, "firewalld")
	e.u32(unix.NFTA_TABLE_FLAGS, tableOwner)
	e.close()
	g.seq++
	e.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET, g.seq)
	e.str(unix.NFTA_CHAIN_TABLE, "firewalld")
	e.str(unix.NFTA_CHAIN_NAME, "FORWARD")
	hook := e.nest(unix.NFTA_CHAIN_HOOK)
	e.u32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_FORWARD)
	e.u32(unix.NFTA_HOOK_PRIORITY, 10)
	e.unnest(hook)
	e.str(unix.NFTA_CHAIN_TYPE, "filter")
	e.close()
	if err := g.send(); err != nil {
		t.Fatal(err)
	}
	f, err := c.Filters()
	if err != nil || len(f) != 1 || !f[0].Owned {
		t.Errorf("filters are %v, %v", f, err)
	}
	if err := (Guests{c}).Apply(kerneltest.Adds(guest("inet", "firewalld", "FORWARD", "first"))); !errors.Is(err, kernel.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err := c.Filters(); err != nil || len(f) != 0 { // it went with its owner
		t.Errorf("filters are %v, %v", f, err)
	}
}

// TestGuestsMark: only the mark of packets is the one that iptables' "mark"
// matches, not that of connections.
func TestGuestsMark(t *testing.T) {
	for rule, want := range map[string]bool{"meta mark and 1 == 1 accept": true, "ct mark and 1 == 1 accept": false} {
		g := guest("ip", "filter", "FORWARD", "last")
		g.Rule = rule
		r, err := compileGuest(g)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := r.exprs[0].(*expr.Match); got != want {
			t.Errorf("%q: a match of iptables: %v, want %v", rule, got, want)
		}
	}
}
