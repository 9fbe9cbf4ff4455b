package model

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDoChore has commands in their order, and those that are to be repeated in the
// next namespace.
func TestDoChore(t *testing.T) {
	for _, c := range []struct{ name, done, left string }{
		{"word by word", "ip route add 10.1.0.0/16 dev eth0|ip route del 10.1.0.0/16 dev eth0", ""},
		{"the destination is enough", "ip route add 10.1.0.0/16 via 192.0.2.1 dev eth0|ip route del 10.1.0.0/16", ""},
		{"other forms of it", "ip -4 route add to default via 192.0.2.1|ip route delete 0.0.0.0/0 via 192.0.2.1", ""},
		{"a host", "ip route add 10.1.0.1/32 via 192.0.2.1 onlink dev eth0|ip route del 10.1.0.1 dev eth0", ""},
		{"replaced meanwhile", "ip route add 10.1.0.0/16 via 192.0.2.1|ip route replace 10.1.0.0/16 via 192.0.2.2|ip route del 10.1.0.0/16 via 192.0.2.2", ""},
		{"IPv6", "ip -6 route add unreachable fd50::/16|ip -6 route del fd50::/16", ""},
		{"both families' default", "ip route add default dev eth1|ip -6 route add default dev eth1|ip -6 route del default", "ip route add default dev eth1"},
		{"another metric", "ip route add 10.1.0.0/16 dev eth0 metric 50|ip route del 10.1.0.0/16", "ip route add 10.1.0.0/16 dev eth0 metric 50|ip route del 10.1.0.0/16"},
		{"the same metric", "ip route add 10.1.0.0/16 dev eth0 metric 50|ip route del 10.1.0.0/16 preference 50", ""},
		{"another table", "ip route add 10.1.0.0/16 dev eth0 table 7|ip route del 10.1.0.0/16", "ip route add 10.1.0.0/16 dev eth0 table 7|ip route del 10.1.0.0/16"},
		{"another way", "ip route add 10.1.0.0/16 dev eth0|ip route del 10.1.0.0/16 dev eth1", "ip route add 10.1.0.0/16 dev eth0|ip route del 10.1.0.0/16 dev eth1"},
		{"not ours", "ip route del default", "ip route del default"},
		{"not ours, then ours", "ip route del default|ip route add default dev eth1|ip route del default", "ip route del default"},
		{"two of one destination", "ip route add 10.1.0.0/16 dev eth0|ip route append 10.1.0.0/16 dev eth1|ip route del 10.1.0.0/16", "ip route add 10.1.0.0/16 dev eth0|ip route append 10.1.0.0/16 dev eth1|ip route del 10.1.0.0/16"},
		{"words that are not known", "ip route add 10.1.0.0/16 nexthop via 192.0.2.1|ip route del 10.1.0.0/16", "ip route add 10.1.0.0/16 nexthop via 192.0.2.1|ip route del 10.1.0.0/16"},
		{"twice the same", "ip route add 10.1.0.0/16 dev eth0|ip route add 10.1.0.0/16 dev eth0", "ip route add 10.1.0.0/16 dev eth0"},

		{"a rule by its source", "ip rule add from 192.0.2.3 table 77|ip rule del from 192.0.2.3", ""},
		{"by its number", "ip rule add from all fwmark 7 lookup 77 pref 100|ip rule del priority 100", ""},
		{"one of two rules", "ip rule add from 192.0.2.3 table 77|ip rule add from 192.0.2.3 table 78|ip rule del from 192.0.2.3 lookup 78", "ip rule add from 192.0.2.3 table 77"},
		{"which of two is not said", "ip rule add from 192.0.2.3 table 77|ip rule add from 192.0.2.3 table 78|ip rule del from 192.0.2.3", "ip rule add from 192.0.2.3 table 77|ip rule add from 192.0.2.3 table 78|ip rule del from 192.0.2.3"},
		{"another family's", "ip -6 rule add table 77 pref 100|ip rule del pref 100", "ip -6 rule add table 77 pref 100|ip rule del pref 100"},

		{"a queue by its place", "tc qdisc add dev eth1 root tbf rate 1mbit burst 32k latency 50ms|tc qdisc del dev eth1 root", ""},
		{"changed meanwhile", "tc qdisc add dev eth1 root handle 1: tbf rate 1mbit|tc qdisc change dev eth1 root handle 1: tbf rate 2mbit|tc qdisc del dev eth1 root", ""},
		{"another device's", "tc qdisc add dev eth1 root pfifo|tc qdisc del dev eth2 root", "tc qdisc add dev eth1 root pfifo|tc qdisc del dev eth2 root"},
		{"another kind", "tc qdisc add dev eth1 root pfifo|tc qdisc del dev eth1 root tbf", "tc qdisc add dev eth1 root pfifo|tc qdisc del dev eth1 root tbf"},
		{"with all that hangs below", "tc qdisc add dev eth1 clsact|tc qdisc add dev eth1 root handle 1: htb|tc class add dev eth1 parent 1: classid 1:1 htb rate 1mbit|tc qdisc add dev eth1 parent 1:1 pfifo|tc filter add dev eth1 parent 1: matchall flowid 1:1|tc filter add dev eth1 ingress matchall action drop|tc filter add dev eth2 parent 1: matchall flowid 1:1|tc qdisc del dev eth1 root",
			"tc qdisc add dev eth1 clsact|tc filter add dev eth1 ingress matchall action drop|tc filter add dev eth2 parent 1: matchall flowid 1:1"},
		{"what comes in", "tc qdisc add dev eth1 root pfifo|tc qdisc add dev eth1 handle ffff: ingress|tc filter add dev eth1 parent ffff: matchall action drop|tc qdisc del dev eth1 ingress", "tc qdisc add dev eth1 root pfifo"},
		{"in fewer letters", "tc q add dev eth1 root pfifo|tc c add dev eth1 parent 1: classid 1:1 htb rate 1mbit|tc qdisc del dev eth1 root", ""},
		{"a class by its number", "tc class add dev eth1 parent 1: classid 1:1 htb rate 1mbit|tc class del dev eth1 classid 1:1", ""},
	} {
		var sb Sandbox
		for line := range strings.SplitSeq(c.done, "|") {
			sb.DoChore(strings.Fields(line))
		}
		if diff := cmp.Diff(c.left, lines(sb.Chores)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

func lines(chores []Chore) string {
	var all []string
	for _, c := range chores {
		all = append(all, strings.Join(c, " "))
	}
	return strings.Join(all, "|")
}

func TestUndoChoreTakesWhatHangsBelow(t *testing.T) {
	root := Chore(strings.Fields("tc qdisc add dev eth1 root handle 1: htb"))
	sb := Sandbox{Chores: []Chore{root, strings.Fields("tc class add dev eth1 parent 1: classid 1:1 htb rate 1mbit"), strings.Fields("ip route add 10.0.0.0/8 dev eth1")}}
	sb.UndoChore(root)
	if got := lines(sb.Chores); got != "ip route add 10.0.0.0/8 dev eth1" {
		t.Errorf("left %s", got)
	}
}
