package fake_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

// TestServices: the rules that choose a service's backend, and those that send
// its answers up to the host, are taken as the kernel takes them.
func TestServices(t *testing.T) {
	ip, eth := kstate.Table{Family: "inet", Name: "sealane"}, kstate.Table{Family: "bridge", Name: "sealane"}
	service := kstate.NftSet{Table: ip, Name: "service4", Type: "ipv4_addr . inet_proto . inet_service", Data: "verdict"}
	backend := kstate.NftSet{Table: ip, Name: "backend4", Type: "ipv4_addr . inet_proto . inet_service . mark", Data: "ipv4_addr . inet_service"}
	here := kstate.NftSet{Table: eth, Name: "here", Type: "ether_addr", Data: "ether_addr"}
	in := func(t kstate.Table, name string, rules ...string) kstate.Chain {
		return kstate.Chain{Table: t, Name: name, Rules: rules}
	}
	client := in(eth, "to_client", "ether daddr set ether saddr map @here meta pkttype set host")
	want := kstate.Set{}
	if err := want.Add(ip, eth, service, backend, here, client,
		in(ip, "rewrite", "dnat ip addr . port to ip daddr . meta l4proto . th dport . meta mark map @backend4"),
		in(ip, "turn3", "meta mark set numgen inc mod 3", "goto rewrite"),
		in(ip, "hash3", "meta mark set jhash ip6 saddr mod 3 seed 0x5ea1", "goto rewrite"),
		in(ip, "service4", "ip daddr . meta l4proto . th dport vmap @service4", "meta l4proto tcp reject with tcp reset"),
		in(eth, "divert4", "ip frag-off and 0x3fff != 0 goto to_client", "icmp type time-exceeded goto to_client"),
		in(eth, "divert6", "exthdr frag exists goto to_client"),
		kstate.Elem{Set: &service, At: "192.0.2.200 . tcp . 80", Value: "goto turn3"},
		kstate.Elem{Set: &backend, At: "192.0.2.200 . tcp . 80 . 0x00000000", Value: "192.0.2.7 . 8080"},
		kstate.Elem{Set: &here, At: "02:42:0a:00:00:02", Value: "02:42:0a:00:00:fe"},
	); err != nil {
		t.Fatal(err)
	}
	k := fake.New(&journal.Memory{})
	reach(t, k, want)
	for rule, why := range map[string]string{
		"ether daddr set iifname map @here":   "is not of type",
		"ether daddr set ether saddr @here":   `want "map"`,
		"reject with tcp reset":               "needs a match of tcp",
		"ether saddr @here accept":            "is not of type",
		"meta mark set jhash ip saddr mod 3":  `want "seed"`,
		"ether daddr set ether saddr map @it": "set it does not exist",
	} {
		if err := k.Apply(context.Background(), []kstate.Op{{New: in(eth, "bad", rule)}}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", rule, err, why)
		}
	}
	reach(t, k, nil)
}
