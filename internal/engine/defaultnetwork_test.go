package engine

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// bridgeOf is what settings say: each word a bridge's address with its length, and after
// a comma the range.
func bridgeOf(words ...string) (c DefaultNetwork) {
	for _, w := range words {
		bip, part, ranged := strings.Cut(w, ",")
		p := netip.MustParsePrefix(bip)
		s := model.Subnet{Prefix: p.Masked(), Gateway: p.Addr()}
		if ranged {
			s.Range = netip.MustParsePrefix(part)
		}
		c.Subnets, c.IPv6 = append(c.Subnets, s), c.IPv6 || p.Addr().Is6()
	}
	return c
}

// follow has the default network follow settings. The loop, and later starts, know others.
func follow(r *rig, now, others DefaultNetwork) error {
	r.said = others
	r.e.work.Lock()
	r.e.cfg.Default = others
	r.e.work.Unlock()
	n, err := r.e.Network(model.NetworkBridge)
	if err != nil {
		return err
	}
	return r.e.followDefault(r.ctx, n.ID, now)
}

var defaultScenarios = []scenario{
	{"another subnet of the default network", base, func(r *rig) error { return follow(r, bridgeOf("10.7.0.1/28"), DefaultNetwork{}) }},
	{"another subnet of IPv6 there, under who has none", func(r *rig) {
		r.ok(follow(r, bridgeOf("fd00:8::1/64"), DefaultNetwork{IPv6: true}))
		r.sandbox("web", SandboxSpec{Networks: on("bridge"), Sysctls: map[string]string{"net.ipv6.conf.all.disable_ipv6": "1"}, Ports: ports("8080:80")})
	}, func(r *rig) error { return follow(r, bridgeOf("fd00:9::1/64"), DefaultNetwork{IPv6: true}) }},
}

func TestDefaultNetworkFollowsItsSettings(t *testing.T) {
	r := bare(t)
	r.quiet = true
	is := func(what, want string) {
		t.Helper()
		n := must[*model.Network](r)(r.e.Network("bridge"))
		var got []string
		for _, s := range n.Subnets {
			text := netip.PrefixFrom(s.Gateway, s.Prefix.Bits()).String()
			if s.Range.IsValid() {
				text += "," + s.Range.String()
			}
			got = append(got, text)
		}
		if s := r.e.NetworkStatus(n); s.State != StateReady {
			got = append(got, s.State, s.Message)
		}
		r.equal(what, strings.Join(got, " "), want)
		r.check()
	}
	begin := func(c DefaultNetwork) {
		t.Helper()
		r.said = c
		if r.e == nil {
			r.start()
		} else {
			r.restart()
		}
	}
	begin(bridgeOf("10.7.0.254/24,10.7.0.128/25", "fd00:7::1/64"))
	id := must[*model.Network](r)(r.e.Network("bridge")).ID
	is("at first", "10.7.0.254/24,10.7.0.128/25 fd00:7::1/64")
	r.equal("in the range", r.sandbox("one", SandboxSpec{Networks: on("bridge")}).Endpoints[0].Addrs, "[10.7.0.128/24 fd00:7::2/64]")

	// The range is nobody's.
	begin(bridgeOf("10.7.0.254/24,10.7.0.64/26", "fd00:7::1/64"))
	is("another range", "10.7.0.254/24,10.7.0.64/26 fd00:7::1/64")
	r.equal("in the new range", r.sandbox("two", SandboxSpec{Networks: on("bridge")}).Endpoints[0].Addrs[0], "10.7.0.64/24")
	begin(bridgeOf("10.7.0.254/24", "fd00:7::1/64"))
	is("no range", "10.7.0.254/24 fd00:7::1/64")

	// Addresses are.
	begin(bridgeOf("10.7.0.254/24"))
	is("IPv6 is to go", "10.7.0.254/24 fd00:7::1/64 degraded network bridge: settings: subnet fd00:7::/64: stays while it is used by one, two (disconnect them or remove them)")
	begin(bridgeOf("10.7.0.254/24", "fd00:7::1/80"))
	is("another length", "10.7.0.254/24 fd00:7::1/64 degraded network bridge: settings: subnet fd00:7::/64: stays while it is used by one, two (disconnect them or remove them)")
	begin(bridgeOf("10.7.0.253/24", "fd00:7::1/64"))
	is("another gateway", "10.7.0.254/24 fd00:7::1/64 degraded network bridge: settings: subnet 10.7.0.0/24: stays while it is used by one, two (disconnect them or remove them)")
	r.ok(r.e.Exited(r.ctx, "two", model.Exit{}))
	r.ok(r.e.Disconnect(r.ctx, "one", "bridge"))
	r.ok(r.e.ensureDefault(r.ctx))
	is("who ended has it still", "10.7.0.254/24 fd00:7::1/64 degraded network bridge: settings: subnet 10.7.0.0/24: stays while it is used by two (disconnect them or remove them)")
	r.ok(r.e.RemoveSandbox(r.ctx, "two", false))
	r.ok(r.e.ensureDefault(r.ctx))
	is("nobody is there", "10.7.0.253/24 fd00:7::1/64")

	// What is in the way is said, until it is not.
	begin(bridgeOf("10.9.0.1/28"))
	is("the LAN's", "10.7.0.253/24 fd00:7::1/64 degraded network bridge: settings: subnet 10.9.0.0/28: overlaps 10.9.0.7/28 on the host's device br0")
	begin(bridgeOf("10.8.0.1/28"))
	is("without IPv6", "10.8.0.1/28")
	begin(DefaultNetwork{})
	is("without settings it stays", "10.8.0.1/28")
	r.sandbox("four", SandboxSpec{Networks: on("bridge"), Ports: ports("8080:80")})
	begin(DefaultNetwork{IPv6: true})
	six, _ := must[*model.Network](r)(r.e.Network("bridge")).Subnet(true)
	is("IPv6 comes under who is there", "10.8.0.1/28 "+netip.PrefixFrom(six.Gateway, 64).String())
	r.equal("who has what he had", must[*model.Sandbox](r)(r.e.Sandbox("four")).Endpoints[0].Addrs, "[10.8.0.2/28]")
	begin(DefaultNetwork{IPv6: true})
	is("the same again", "10.8.0.1/28 "+netip.PrefixFrom(six.Gateway, 64).String())
	begin(DefaultNetwork{})
	is("IPv6 goes, of which nobody has any", "10.8.0.1/28")
	r.ok(r.e.RemoveSandbox(r.ctx, "four", true))
	r.equal("it is the same network", must[*model.Network](r)(r.e.Network("bridge")).ID, string(id))
}

// An event tells of it once, and the loop tries again what was refused.
func TestDefaultNetworkFollowsLater(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.sandbox("web", SandboxSpec{Networks: on("bridge")})
		_, at := r.e.Events(r.ctx, -1)
		r.e.work.Lock()
		r.e.cfg.Default = bridgeOf("10.7.0.1/24")
		r.e.work.Unlock()
		r.wait(interval + time.Second)
		r.equal("status", r.status().State, StateDegraded)
		since := r.status().Since
		r.wait(interval)
		r.equal("since", r.status().Since, since.String())
		r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
		r.wait(interval + time.Second)
		r.equal("status", r.status().State, StateReady)
		r.check()
		list, _ := r.e.Events(r.ctx, at)
		var told []string
		for _, ev := range list {
			told = append(told, ev.Type+" "+ev.Action)
		}
		r.equal("events", told, "[network disconnect sandbox destroy network update]")
	})
}
