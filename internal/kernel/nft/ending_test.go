package nft

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
)

// TestEndings: what becomes of packets that nobody thought of.
func TestEndings(t *testing.T) {
	c := open(t)
	for _, r := range []struct{ policy, rules, ends string }{
		{"accept", "", ""},
		{"drop", "", "policy"},
		{"accept", "ip saddr 192.0.2.1 drop", ""},
		{"accept", "ip saddr 192.0.2.1 accept; drop", "last"},
		{"accept", "counter log reject", "last"},
		{"accept", "reject; ip saddr 192.0.2.1 accept", "inside"},
		{"drop", "accept", ""},
		{"drop", "return", "policy"},
		{"drop", "ip saddr 192.0.2.1 accept; counter drop", "last"},
		{"drop", "iifname eth0 jump drops", "policy"},
		{"accept", "jump drops; accept", "inside"},
		{"accept", "jump picky; drop", "last"},
		{"drop", "jump picky", "policy"},
		{"drop", "jump takes; drop", ""},
		{"drop", "goto picky; accept", "policy"},
		{"accept", "goto picky; drop", ""},
		{"accept", "goto drops", "inside"},
		{"accept", "meta l4proto vmap { tcp : drop }", ""},
		{"drop", "meta mark set 7; jump picky", "policy"},
	} {
		run(t, fmt.Sprintf(`flush ruleset
			table inet t {
				chain takes { accept; }
				chain drops { ip saddr 192.0.2.1 return; drop; }
				chain picky { ip saddr 192.0.2.1 drop; return; drop; }
				chain base { type filter hook forward priority 0; policy %s; %s; }
			}`, r.policy, r.rules))
		got, err := c.Filters()
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if string(got[0].Ends) != r.ends {
			t.Errorf("policy %s; %s: ends %q, want %q", r.policy, r.rules, got[0].Ends, r.ends)
		}
	}
}

// TestReached: chains that nothing leads to any more are not where a guest
// would be of use.
func TestReached(t *testing.T) {
	c := open(t)
	reached := func(want ...string) {
		t.Helper()
		got, err := c.Filters()
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if !slices.Equal(got[0].Reached, want) {
			t.Errorf("reached %v, want %v", got[0].Reached, want)
		}
	}
	shell(t, "iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -N far; iptables -A DOCKER-USER -i eth0 -j far; iptables -A FORWARD -j DOCKER-USER")
	reached("DOCKER-USER", "far")
	shell(t, "iptables -F FORWARD")
	reached()
	shell(t, "iptables -N loop; iptables -A FORWARD -i eth0 -g far; iptables -P FORWARD DROP")
	reached("far")
}

// TestBeforeTheEnd: a guest stands before the rule that stops all others.
func TestBeforeTheEnd(t *testing.T) {
	c := open(t)
	shell(t, "iptables -A FORWARD -i lo -j DROP; iptables -A FORWARD -j REJECT")
	g := guest("ip", "filter", "FORWARD", "before-last")
	seat(t, c, kerneltest.Adds(g)...)
	want := `-P FORWARD ACCEPT
-A FORWARD -i lo -j DROP
-A FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment "made by sealane" -j ACCEPT
-A FORWARD -j REJECT --reject-with icmp-port-unreachable
`
	if got := shell(t, "iptables -S FORWARD"); got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
}
