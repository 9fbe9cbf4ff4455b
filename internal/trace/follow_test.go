package trace

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

var (
	sender = kstate.NS{Path: "/run/netns/a", Inode: 1}
	nearTo = kstate.NS{Path: "/run/netns/b", Inode: 2}
	mark   = kstate.Table{Family: "inet", Name: "sealane-trace-1"}
	ports  = kstate.Table{Family: "ip", Name: "nat"}
	theirs = kstate.Table{Family: "ip", Name: "filter"}
)

// seen reads "SRC DST" of ports and makes the first word of a chain.
func seen(ns kstate.NS, s kernel.Sighting, way string) kernel.Sighting {
	src, dst, ok := strings.Cut(way, " ")
	if s.NS = ns; ok {
		s.Headed, s.Proto = true, 6
		s.Src, s.Dst = netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	}
	return s
}

// wayThere is a connection to a published port, up to where it is judged.
func wayThere() []kernel.Sighting {
	const asked, served = "10.1.0.2:999 192.0.2.1:80", "10.1.0.2:999 10.2.0.2:8080"
	return []kernel.Sighting{
		seen(sender, kernel.Sighting{Own: true, Table: mark, Chain: "leaving", Hook: "output", Ends: "rule", Verdict: "continue", Out: "eth0"}, asked),
		seen(kstate.NS{}, kernel.Sighting{Own: true, Table: mark, Chain: "arriving", Hook: "prerouting", Ends: "rule", Verdict: "continue", In: "slv1"}, asked),
		seen(kstate.NS{}, kernel.Sighting{Own: true, Table: mark, Chain: "arriving", Ends: "policy", Verdict: "accept"}, ""),
		seen(kstate.NS{}, kernel.Sighting{Table: ports, Chain: "PREROUTING", Hook: "prerouting", Priority: -100, Ends: "rule", Handle: 3, Number: 1, Verdict: "jump DOCKER", In: "slv1"}, asked),
		seen(kstate.NS{}, kernel.Sighting{Table: ports, Chain: "DOCKER", Ends: "rule", Handle: 9, Number: 2, Rule: "web", Verdict: "accept"}, ""),
		seen(kstate.NS{}, kernel.Sighting{Table: theirs, Chain: "FORWARD", Hook: "forward", Ends: "rule", Verdict: "continue", In: "slv1", Out: "docker0"}, served),
	}
}

func ended(verdict string) kernel.Sighting {
	return seen(kstate.NS{}, kernel.Sighting{Table: theirs, Chain: "FORWARD", Ends: "policy", Verdict: verdict}, "")
}

func tellFollowed(f Followed) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", f.Fate, f.Why)
	for _, s := range append(f.There, f.Back...) {
		fmt.Fprintf(&b, "%v %s %s>%s: %s\n", s.Problem, s.Where, s.In, s.Out, s.What)
	}
	return b.String() + f.Hint
}

func TestFollow(t *testing.T) {
	scene := Scene{
		Probe: kernel.Probe{From: sender, Near: nearTo, Proto: "tcp"}, Names: map[kstate.NS]string{sender: "sandbox a", nearTo: "sandbox b"},
		Filters: []kstate.Filter{{Table: theirs, Chain: "FORWARD", Chains: []string{"DOCKER-USER", "ufw-before-forward"}}},
	}
	const came = `false sandbox a >eth0: is sent: 10.1.0.2 port 999 -> 192.0.2.1 port 80
false host slv1>: comes in: 10.1.0.2 port 999 -> 192.0.2.1 port 80
false host slv1>: prerouting -100: ip nat: PREROUTING rule 1 (handle 3): jump DOCKER; DOCKER rule 2 (handle 9) "web": accept (Docker's)
false host >: destination 192.0.2.1 port 80 becomes 10.2.0.2 port 8080
`
	back := seen(kstate.NS{}, kernel.Sighting{Back: true, Own: true, Table: mark, Chain: "arriving-known", Hook: "prerouting", Ends: "rule", Verdict: "continue", In: "docker0"}, "10.2.0.2:8080 10.2.0.1:999")
	for _, c := range []struct {
		name  string
		trail kernel.Trail
		want  string
	}{
		{"dropped by a policy", kernel.Trail{Seen: append(wayThere(), ended("drop"))}, `dropped: dropped by the policy of chain FORWARD of table ip filter, Docker's or ufw's
` + came + `true host slv1>docker0: forward 0: ip filter: FORWARD: policy drop (Docker's or ufw's)
nft -a list chain ip filter FORWARD shows it; a rule in chain DOCKER-USER is asked before Docker's own; ufw status numbered lists its rules; ufw route allow lets through what is forwarded, ufw allow what is for the host; docs/others.md tells how Sealane lives with others' filters`},
		{"again", kernel.Trail{Seen: append(append(wayThere(), ended("accept")), append(wayThere(), ended("drop"))...)}, `silent: it was seen last on the host, leaving by docker0, at hook forward and not at postrouting: what stops it is not in nftables
` + came + `false host slv1>docker0: forward 0: ip filter: FORWARD: policy accept (Docker's or ufw's)
`},
		{"answered", kernel.Trail{Answered: true, Seen: append(append(wayThere(), ended("accept")), back)}, `answered: 
` + came + `false host slv1>docker0: forward 0: ip filter: FORWARD: policy accept (Docker's or ufw's)
false host >: source 10.1.0.2 port 999 leaves as 10.2.0.1 port 999
false host docker0>: comes in: 10.2.0.2 port 8080 -> 10.2.0.1 port 999
`},
		{"refused", kernel.Trail{Refused: true, Why: "connection refused"}, "refused: refused: nobody listens there\n"},
		{"no way", kernel.Trail{Why: "no route to 192.0.2.1"}, "unreachable: no route to 192.0.2.1\n"},
		{"nothing", kernel.Trail{}, "silent: no chain saw it: it did not leave its sender\n"},
		{"lost on the way back", kernel.Trail{Seen: append(append(wayThere(), ended("accept")), back)}, `silent: an answer was seen last on the host, coming in by docker0, and did not arrive
` + came + `false host slv1>docker0: forward 0: ip filter: FORWARD: policy accept (Docker's or ufw's)
false host >: source 10.1.0.2 port 999 leaves as 10.2.0.1 port 999
false host docker0>: comes in: 10.2.0.2 port 8080 -> 10.2.0.1 port 999
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, tellFollowed(Follow(scene, c.trail))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
