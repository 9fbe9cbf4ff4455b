package nft

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
)

// filterLines are the filters as texts, sorted.
func filterLines(t testing.TB, c *Conn) []string {
	t.Helper()
	got, err := c.Filters()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range got {
		out = append(out, fmt.Sprintf("%s %s %s %s %d %s %v %v", f.Table.Family, f.Table.Name, f.Chain, f.Hook, f.Priority, f.Policy, f.Stops, f.Chains))
	}
	slices.Sort(out)
	return out
}

func wantFilters(t testing.TB, c *Conn, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := filterLines(t, c); !slices.Equal(got, want) {
		t.Errorf("filters are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFilters(t *testing.T) {
	c := open(t)
	wantFilters(t, c)
	apply(t, c, kerneltest.Adds(append(corpus(), bridgeCorpus()...)...)...)
	wantFilters(t, c) // our own are none
	shell(t, dockerRules)
	shell(t, "iptables -t nat -A POSTROUTING -j MASQUERADE; iptables -A INPUT -i lo -j ACCEPT; iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
	wantFilters(t, c,
		"ip filter FORWARD forward 0 drop true [DOCKER-FORWARD DOCKER-USER]",
		"ip filter INPUT input 0 accept false [DOCKER-FORWARD DOCKER-USER]",
		"ip mangle FORWARD forward -150 accept false []",
		"ip6 filter FORWARD forward 0 drop true [DOCKER-FORWARD DOCKER-USER]")
	run(t, "flush ruleset")
	wantFilters(t, c)
}

func TestWhatStops(t *testing.T) {
	c := open(t)
	for i, r := range []struct {
		rules string
		stops bool
	}{
		{"accept", false}, {"counter", false}, {"drop", true}, {"reject", true}, {"ip saddr 192.0.2.1 log", false},
		{"jump harmless", false}, {"jump drops", true}, {"jump far", true}, {"goto far", true}, {"ct state vmap { established : accept, invalid : drop }", true},
		{"ct state vmap { established : accept, new : jump harmless }", false}, {"iifname vmap @zones", true}, {"iifname vmap @empty", false},
		{"tcp dport { 22, 80 } accept", false}, {"jump beyond", false}, {"meta mark set ip saddr map { 192.0.2.1 : 1 }", false},
	} {
		run(t, fmt.Sprintf(`flush ruleset
			table ip t {
				map zones { type ifname : verdict; elements = { "eth0" : goto far }; }
				map empty { type ifname : verdict; }
				chain harmless { accept; }
				chain drops { drop; }
				chain far { ip saddr 192.0.2.1 jump drops; }
				chain beyond { jump harmless; }
				chain base { type filter hook input priority %d; policy accept; %s; }
			}
			table inet asleep { flags dormant; chain base { type filter hook forward priority 0; drop; }; }
			table netdev n { chain c { type filter hook ingress device lo priority 0; drop; }; }
			table inet n { chain c { type nat hook input priority 100; drop; }; chain d { type filter hook output priority 0; drop; }; }`, i, r.rules))
		t.Run(r.rules, func(t *testing.T) {
			wantFilters(t, c, fmt.Sprintf("ip t base input %d accept %v [beyond drops far harmless]", i, r.stops))
		})
	}
}

// TestStoppers: the targets of xtables.
func TestStoppers(t *testing.T) {
	c := open(t)
	for target, stops := range map[string]bool{"REJECT": true, "DROP": true, "LOG": false, "ACCEPT": false, "CONNMARK --save-mark": false} {
		shell(t, "iptables -A INPUT -p tcp; iptables -F INPUT; iptables -A INPUT -p tcp -j "+target)
		wantFilters(t, c, fmt.Sprintf("ip filter INPUT input 0 accept %v []", stops))
	}
}

// TestQueue: what a kernel without queues cannot be asked.
func TestQueue(t *testing.T) {
	for want, e := range map[string]expr.Any{
		"queue": &expr.Queue{Num: 1}, "target NFQUEUE": &expr.Target{Name: "NFQUEUE", Info: &xt.Unknown{}},
		"verdict": &expr.Verdict{Kind: expr.VerdictKind(3 | 7<<16)}, // NF_QUEUE to queue 7
	} {
		b, err := expr.Marshal(unix.NFPROTO_IPV4, e)
		if err != nil {
			t.Fatal(err)
		}
		enc, f := encoder{}, flow{}
		enc.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		if f.rule(attrs(enc.buf)); !f.stop {
			t.Errorf("%s stops nothing", want)
		}
	}
}

// dockerHost has so many published ports of Docker's in its tables.
func dockerHost(b *testing.B, ports int) *Conn {
	b.Helper()
	c := open(b)
	shell(b, dockerRules)
	var s strings.Builder
	for i := range ports {
		fmt.Fprintf(&s, "add rule ip filter DOCKER-FORWARD iifname != docker0 oifname docker0 ip daddr 172.17.%d.%d tcp dport 80 counter accept\n", i>>8, i&255)
	}
	run(b, s.String())
	seat(b, c, kerneltest.Adds(guest("ip", "filter", "FORWARD", "first"))...)
	return c
}

// BenchmarkObserveOthers is what the rules of others cost a pass.
func BenchmarkObserveOthers(b *testing.B) {
	for _, n := range []int{-1, 0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := open(b)
			if n >= 0 {
				c = dockerHost(b, n)
			}
			for b.Loop() {
				if _, err := c.Observe(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFilters(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := dockerHost(b, n)
			for b.Loop() {
				if _, err := c.Filters(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
