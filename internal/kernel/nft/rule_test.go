package nft

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

func TestParseChain(t *testing.T) {
	p, err := ParseChain(base("c", "nat", "prerouting", -100,
		"iifname . oifname @inside accept", "iifname . oifname @inside drop", "iifname vmap @egress", "goto a", "jump b", "tcp dport 80 goto a",
		"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @ports", "meta mark set ip saddr map @marks", "iifname != @bridges drop"))
	if err != nil {
		t.Fatal(err)
	}
	sets := []SetUse{
		{"inside", "ifname . ifname", ""}, {"egress", "ifname", "verdict"},
		{"ports", "ipv6_addr . inet_proto . inet_service", "ipv6_addr . inet_service"},
		{"marks", "ipv4_addr", "mark"}, {"bridges", "ifname", ""},
	}
	if !reflect.DeepEqual(p.Sets, sets) {
		t.Errorf("sets %v, want %v", p.Sets, sets)
	}
	if !reflect.DeepEqual(p.Chains, []string{"a", "b"}) {
		t.Errorf("chains %v", p.Chains)
	}
	for _, o := range slices.Concat(corpus(), bridgeCorpus(), serviceCorpus(), divertCorpus()) {
		switch o := o.(type) {
		case kstate.Chain:
			if _, err := ParseChain(o); err != nil {
				t.Error(err)
			}
		case kstate.NftSet:
			if err := ParseSet(o); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestBadRules(t *testing.T) {
	for rule, want := range map[string]string{
		"":                                                        "no statement",
		`comment "x"`:                                             "no statement",
		"drop drop":                                               `found "drop" after the end`,
		"masquerade counter":                                      `found "counter" after the end`,
		"iifname":                                                 "the rule ends, want a value for iifname",
		"iifname @":                                               `"" has 0 bytes`,
		"iifname @a b":                                            `found "b", want a selector`,
		"iifname sl-0123456789abc drop":                           "interface name",
		"iifname * drop":                                          `"" is not an interface name`,
		`iifname "" drop`:                                         `"" is not an interface name`,
		"ip6 saddr & 7 @own6":                                     `"7" is not an IPv6 address`,
		"iifname . drop":                                          `found "drop", want a selector`,
		"iifname . oifname br0 drop":                              `found "br0", want the name of a set`,
		"iifname . ct state @x drop":                              "ct state cannot be joined",
		"ct state @x drop":                                        "ct state cannot be looked up",
		"ct state == strange drop":                                `"strange" is not known`,
		"ct state != new,related drop":                            "!= with several",
		"ct direction both drop":                                  `"both" is not known`,
		"ip saddr 192.0.2.1/24 drop":                              "host bits",
		"ip saddr 192.0.2.1/32 drop":                              "must be written 192.0.2.1",
		"ip saddr 192.0.2.0/33 drop":                              "is not a prefix",
		"ip saddr ::1 drop":                                       "is not an IPv4 address",
		"ip6 saddr 2001:DB8::1 drop":                              "must be written 2001:db8::1",
		"ip6 saddr fe80::1%eth0 drop":                             "is not an IPv6 address",
		`ip saddr "192.0.2.1" drop`:                               "value in quotes",
		"ip saddr 192.0.2.1 ip6 saddr ::1":                        "another address family",
		"meta nfproto ipv4 ip6 saddr ::1":                         "another address family",
		"tcp dport 80 udp dport 80 drop":                          "another protocol",
		"ip protocol tcp udp dport 80":                            "another protocol",
		"tcp dport 65536 drop":                                    "is not a port number",
		"tcp flags syn drop":                                      `found "drop", want "/"`,
		"tcp flags syn / fin,none drop":                           `"none" is not known`,
		"tcp flags @x drop":                                       `"@x" is not known`,
		"udp dport 80 tcp flags syn / syn":                        "another protocol",
		"tcp option maxseg size set 1400":                         `found "tcp"`,
		"tcp dport 080 drop":                                      "is not a port number",
		"meta l4proto 6 drop":                                     "must be written tcp",
		"ether type 0x0800 drop":                                  "must be written ip",
		"ether type 88cc drop":                                    "is not an ethernet protocol",
		"meta protocol ip ip6 saddr ::1":                          "another address family",
		"ether type 0x88cc ip saddr 1.2.3.4":                      "another address family",
		"icmp type nd-redirect drop":                              `"nd-redirect" is not known`,
		"icmpv6 type 256 drop":                                    `"256" is not known`,
		"ip6 saddr ::1 icmp type 8 drop":                          "another address family",
		"icmp type 8 icmpv6 type 128 drop":                        "another protocol",
		"tcp dport 80 icmp type 8 drop":                           "another protocol",
		"meta mark and 1 drop":                                    "want == or !=",
		"meta mark and == 1 drop":                                 "is not a number of 32 bits",
		"meta mark set meta mark or":                              "is not a number of 32 bits",
		"snat ip to ip saddr :2-1":                                "want ports as in :1024-2047",
		"snat ip to ip saddr :0-1":                                "want ports as in :1024-2047",
		"snat ip to ip saddr 1-2":                                 "want ports as in :1024-2047",
		"snat ip to ip saddr :1-65536":                            "want ports as in :1024-2047",
		"snat ip to ip6 saddr :1-2":                               `want "map"`,
		"snat ip to ip saddr . ip daddr :1-2":                     `want "map"`,
		"th dport and 1 == 1 drop":                                "is not a port number",
		"meta l4proto tpc drop":                                   "is not an IP protocol",
		"meta mark 0x100000000 drop":                              "is not a number of 32 bits",
		"meta mark 010 drop":                                      "is not a number of 32 bits",
		"meta mark set":                                           "is not a number of 32 bits",
		"meta mark set ip saddr":                                  `the rule ends, want "map"`,
		"meta mark set numgen random mod 0":                       "numgen: mod 0",
		"meta mark set numgen mod 3":                              `numgen: found "mod", want random or inc`,
		"meta mark set numgen inc 3":                              `numgen: found "3", want "mod"`,
		"meta mark set numgen inc mod 3 seed 1":                   `found "seed"`,
		"meta mark set numgen inc mod 3 offset 1":                 `found "offset"`,
		"meta mark set jhash mod 3 seed 1":                        `jhash: found "mod", want a selector`,
		"meta mark set jhash ct state mod 3 seed 1":               "jhash: ct state cannot be hashed",
		"meta mark set jhash ip saddr mod 3":                      `jhash: the rule ends, want "seed"`,
		"meta mark set jhash ip saddr mod 3 seed 0":               "jhash: seed 0",
		"meta mark set jhash ip saddr mod 0 seed 1":               "jhash: mod 0",
		"meta mark set jhash ip saddr mod -1 seed 1":              "is not a number of 32 bits",
		"meta mark set jhash ip saddr . ip daddr mod 3 seed 1":    `jhash: found ".", want "mod"`,
		"ip6 saddr ::1 meta mark set jhash ip saddr mod 3 seed 1": "another address family",
		"reject with tcp reset":                                   "needs a match of tcp in front",
		"udp dport 80 reject with tcp reset":                      "needs a match of tcp in front",
		"tcp dport 80 reject with icmp 3":                         `found "with" after the end`,
		"tcp dport 80 reject with tcp reset drop":                 `found "drop" after the end`,
		"ip frag-off and 0x10000 != 0 drop":                       "is not a number of 16 bits",
		"ip frag-off and 0x3fff drop":                             "want == or !=",
		"ip frag-off & 0x3fff != 0x drop":                         "is not a number of 16 bits",
		"ip frag-off @x drop":                                     "cannot be looked up",
		"ip frag-off . ip saddr @x drop":                          "ip frag-off cannot be joined",
		"ip6 saddr ::1 ip frag-off 0 drop":                        "another address family",
		"ip saddr & 1 == 1 drop":                                  "is not an IPv4 address",
		"exthdr frag drop":                                        `"drop" is not known`,
		"exthdr hbh exists drop":                                  `found "exthdr"`,
		"ip saddr 192.0.2.1 exthdr frag exists":                   "another address family",
		"ether daddr set ether saddr map @here":                   "for bridge tables",
		"ether daddr set 02:42:0a:00:00:02":                       "want a selector",
		"ether daddr set ether saddr @here":                       `found "@here", want "map"`,
		"ether saddr set ether daddr map @here":                   `"set" is not`,
		"meta pkttype set host":                                   "for bridge tables",
		"meta pkttype set other":                                  `found "meta"`,
		"meta pkttype host":                                       `found "meta"`,
		"tcp dport 80 redirect to 80":                             "want a port as in :80",
		"tcp dport 80 redirect to :0":                             "want a port as in :80",
		"dnat to 192.0.2.1":                                       "want ip or ip6",
		"dnat ip 192.0.2.1":                                       `found "192.0.2.1", want "to"`,
		"dnat ip to":                                              "the rule ends, want an address",
		"dnat ip to 192.0.2.1:80":                                 "is not an IPv4 address",
		"dnat ip addr . port to 192.0.2.1":                        `found "192.0.2.1", want a selector`,
		"dnat ip to ip daddr @m":                                  `found "@m", want "map"`,
		"dnat ip to ct state map @m":                              "ct state cannot be looked up",
		"jump":                                                    "chain: ",
		"goto a;b":                                                `character ';'`,
		"iifname { a, b } drop":                                   `character '{'`,
		"iifname $x drop":                                         `character '$'`,
		"drop # no":                                               `character '#'`,
		"drop\nreturn":                                            `character '\n'`,
		"iifname vmap m":                                          `found "m", want the name of a set`,
		"ct state vmap @m":                                        "ct state cannot be looked up",
		`iifname "br0`:                                            "quote is not closed",
		`iifname "br0"drop`:                                       "no space after",
		"drop comment x":                                          "want its text in quotes",
		`drop comment ""`:                                         "want its text in quotes",
		`drop comment "x" drop`:                                   `found "drop" after the comment`,
		`drop  comment "x"`:                                       "",
		`drop comment  "x"`:                                       "want one space",
		`drop comment "x" `:                                       "want one space",
		"iptables -j DROP":                                        `found "iptables", want a selector`,
		`drop comment "` + long(128) + `"`:                        "at most 127 fit",
		"foreign rule handle 7":                                   `found "foreign"`,
		"counter " + long(300):                                    "want a selector",
		strings.Repeat("counter ", 40):                            "at most 253 fit",
		strings.Repeat("tcp dport 80 ", 100):                      "bytes, at most",
	} {
		_, err := ParseChain(chain("c", rule))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", rule, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error is %v, want %q", rule, err, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestBadChains(t *testing.T) {
	other := base("c", "filter", "input", 0)
	other.Table.Family = "ip"
	inBridge, routing := base("c", "nat", "prerouting", 0), base("c", "route", "output", 0)
	inBridge.Table.Family, routing.Table.Family = "bridge", "bridge"
	nfproto := base("c", "filter", "input", 0, "meta nfproto ipv4 drop")
	nfproto.Table.Family = "bridge"
	for _, c := range []struct {
		chain kstate.Chain
		want  string
	}{
		{other, "want inet or bridge"}, {inBridge, "type nat cannot be"}, {routing, "type route cannot be at hook output of family bridge"}, {nfproto, "no use in a bridge"},
		{base("c", "filter", "input", 0, "arp operation reply drop"), "for bridge tables"},
		{chain("a b"), `character ' '`}, {chain(""), "0 bytes"}, {chain(long(256)), "256 bytes"}, {chain("1a"), "character '1'"},
		{base("c", "filter", "ingress", 0), "hook"}, {base("c", "route", "input", 0), "type route cannot be at hook input"},
		{base("c", "filter policy drop", "input", 0), "want filter, nat or route"},
		{base("c", "nat", "forward", 0), "cannot be at hook"}, {base("c", "nat", "input", -200), "not above -200"},
		{base("c", "filter", "", 0), "without a hook"}, {base("c", "filter", "input", 1<<40), "32 bits"},
	} {
		if _, err := ParseChain(c.chain); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", c.chain, err, c.want)
		}
	}
}

func TestUserdata(t *testing.T) {
	body := strings.Repeat("counter ", 14) + "drop" // 116 bytes
	for _, text := range []string{"drop", body, body + commentText(long(127)), long(253), long(249) + commentText("x")} {
		_, comment, _ := strings.Cut(text, ` comment "`)
		b, err := encodeUserdata(text, strings.TrimSuffix(comment, `"`))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if len(b) > maxUserdata {
			t.Errorf("%q: %d bytes", text, len(b))
		}
		if got, ok := decodeUserdata(b); !ok || got != text {
			t.Errorf("got %q, %v, want %q", got, ok, text)
		}
	}
	if _, err := encodeUserdata(long(254), ""); err == nil {
		t.Error("254 bytes fit")
	}
	for _, b := range [][]byte{nil, {0, 2, 'x', 0}, {94}, {94, 5, 1}, {94, 0}, {94, 1, version}, {94, 3, version + 1, 'o', 'k'}, {0, 255, 1}} {
		if s, ok := decodeUserdata(b); ok {
			t.Errorf("% x is ours: %q", b, s)
		}
	}
}

// FuzzRule: whatever parses compiles to expressions that netlink can carry, or
// says why not, and its text comes back from its userdata.
func FuzzRule(f *testing.F) {
	for _, o := range slices.Concat(corpusChains(), bridgeCorpus(), serviceCorpus(), divertCorpus()) {
		if c, ok := o.(kstate.Chain); ok {
			for _, r := range c.Rules {
				f.Add(r)
			}
		}
	}
	for _, rules := range moreRules {
		for _, r := range rules {
			f.Add(r)
		}
	}
	f.Fuzz(func(t *testing.T, rule string) {
		frames := chain("c", rule)
		frames.Table.Family = "bridge"
		if _, err := ParseChain(frames); err != nil && !strings.HasPrefix(err.Error(), "rule ") {
			t.Errorf("error does not name the rule: %v", err)
		}
		if err := ParseGuest(kstate.Guest{Table: kstate.Table{Family: "ip6", Name: "filter"}, Chain: "FORWARD", At: "last", Rule: rule}); err != nil && !strings.HasPrefix(err.Error(), "rule ") {
			t.Errorf("error does not name the rule: %v", err)
		}
		p, err := ParseChain(chain("c", rule))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "rule ") {
				t.Errorf("error does not name the rule: %v", err)
			}
			return
		}
		if got, ok := decodeUserdata(p.rules[0].userdata); !ok || got != rule {
			t.Errorf("%q comes back as %q", rule, got)
		}
		for _, e := range p.rules[0].exprs {
			if _, err := expr.Marshal(unix.NFPROTO_INET, e); err != nil {
				t.Error(err)
			}
		}
	})
}
