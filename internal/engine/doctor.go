package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Check is one thing that was looked at.
type Check struct {
	State string // CheckOK …
	What  string // was looked at
	Why   string // it is so
	Right string // what would be right; "": it is
}

// States of checks.
const (
	CheckOK   = "ok"
	CheckWarn = "warn" // it works, and may not for long, or not for all
	CheckFail = "fail"
)

// Health is how the daemon looks at what is no state of its own. All of it may be nil.
type Health struct {
	Vitals     func() facts.Vitals
	Forwarding func() map[string]bool // by family
	Features   func() []feature.Answer
	Runtimes   func() []model.Runtime // that are on the host and answer by a socket
	Ask        func(context.Context, netip.AddrPort) (time.Duration, error)
	Plugin     func() error // nil: Docker finds us
}

// patient is how long a name server or a runtime may take to answer the doctor.
const patient = 3 * time.Second

// Doctor looks whether this host and this daemon are well: what the kernel lacks, what is
// not as intended, which networks and sandboxes do not fare as they should, who else filters, and
// what is nearly used up. It changes nothing, and takes some seconds where somebody does
// not answer.
func (e *Engine) Doctor(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, 2*patient)
	defer cancel()
	return slices.Concat(e.checkFeatures(), e.checkDrift(ctx), e.checkForwarding(), e.checkNetworks(), e.checkStore(), e.checkFabrics(), e.checkRecords(), e.checkSandboxes(), e.checkUplinks(ctx), e.checkOthers(),
		e.checkVitals(), e.checkServers(ctx), e.checkRuntimes(ctx), e.checkPlugin())
}

func fine(what, why string, args ...any) Check {
	return Check{State: CheckOK, What: what, Why: fmt.Sprintf(why, args...)}
}

// checkFeatures is about the kernel.
func (e *Engine) checkFeatures() (out []Check) {
	if e.cfg.Health.Features == nil {
		return nil
	}
	var has []string
	for _, f := range e.cfg.Health.Features() {
		_, missing := errors.AsType[*feature.Missing](f.Err)
		switch {
		case f.Err == nil:
			has = append(has, f.Name)
		case missing:
			out = append(out, Check{CheckWarn, "kernel", "has no " + f.Name + ": " + f.Gives, "needs " + f.Needs + ", and a restart of the daemon"})
		default:
			out = append(out, Check{CheckWarn, "kernel", f.Err.Error(), "that it can be asked"})
		}
	}
	return append([]Check{fine("kernel", "has %s", strings.Join(has, ", "))}, out...)
}

// checkDrift is about what a pass would do now.
func (e *Engine) checkDrift(ctx context.Context) []Check {
	ops, more, err := e.Diff(ctx)
	if err != nil {
		return []Check{{CheckFail, "intent", "what the kernel has cannot be told: " + err.Error(), "see the log"}}
	}
	said := e.ailingKeys()
	left := slices.DeleteFunc(slices.Clone(ops), func(op kstate.Op) bool { return said[op.Object().Key()] })
	if len(left) == 0 && len(ops) > 0 && len(more) == 0 {
		return nil
	}
	switch ops = left; {
	case len(ops) == 0 && len(more) > 0:
		return []Check{{CheckWarn, "intent", "not as intended: " + more[0], "it is tried again, later and later; sealane inspect says why it failed"}}
	case len(ops) > 0:
		others := ""
		if len(ops) > 1 {
			others = fmt.Sprintf(", and %d more", len(ops)-1)
		}
		return []Check{{CheckWarn, "intent", fmt.Sprintf("not as intended: %s%s", ops[0], others), "it is mended within 30 seconds; sealane diff lists what stays"}}
	}
	return []Check{fine("intent", "everything is as intended")}
}

// ailingKeys returns what belongs to networks and sandboxes that are degraded: why, and
// that it is not mended by itself, is said of these.
func (e *Engine) ailingKeys() map[kstate.Key]bool {
	e.work.Lock()
	defer e.work.Unlock()
	e.mu.RLock()
	defer e.mu.RUnlock()
	keys := map[kstate.Key]bool{}
	add := func(fragment kstate.Set, _ error) {
		for key := range fragment {
			keys[key] = true
		}
	}
	for _, n := range e.intent.Networks {
		if _, ails := e.parents[n.ID]; ails || e.problems[n.Ref()].text != "" {
			add(compile.Network(n, e.facts))
			for _, o := range driver.Shared(n) {
				keys[o.Key()] = true
			}
		}
	}
	for _, sb := range e.intent.Sandboxes {
		if _, ails := e.ailing(sb); ails || e.problems[sb.Ref()].text != "" {
			add(compile.Sandbox(sb, e.intent, e.facts))
		}
	}
	return keys
}

// checkForwarding is about what networks need of the host.
func (e *Engine) checkForwarding() (out []Check) {
	if e.cfg.Health.Forwarding == nil {
		return nil
	}
	e.mu.RLock()
	nets := values(e.intent.Networks)
	e.mu.RUnlock()
	on := e.cfg.Health.Forwarding()
	for _, family := range []struct {
		name, setting string
		is6           bool
	}{{"IPv4", "net.ipv4.ip_forward", false}, {"IPv6", "net.ipv6.conf.all.forwarding", true}} {
		needed := slices.ContainsFunc(nets, func(n *model.Network) bool {
			_, has := n.Subnet(family.is6)
			return has && n.ByHost() && !n.Internal
		})
		switch passes, known := on[family.name]; {
		case !known || !needed:
		case passes:
			out = append(out, fine("forwarding", "the host passes on %s", family.name))
		default:
			out = append(out, Check{CheckFail, "forwarding", family.setting + " is 0: no network reaches anything by " + family.name, "Sealane sets it again within 30 seconds; find out who takes it back"})
		}
	}
	return out
}

// checkNetworks is about each network: its status, and how full it is.
func (e *Engine) checkNetworks() (out []Check) {
	for _, n := range e.Networks() {
		s := e.NetworkStatus(n)
		switch {
		case s.State != StateReady:
			out = append(out, Check{CheckFail, n.Ref(), s.State + ": " + s.Message, "sealane network inspect " + n.Name + " says more"})
		case s.Message != "":
			out = append(out, Check{CheckWarn, n.Ref(), s.Message, "a subnet that nothing of the host's is in"})
		default:
			out = append(out, fine(n.Ref(), "%s", s.State))
		}
		usage := e.Usage(n)
		for _, is6 := range []bool{false, true} {
			var u ipam.Usage
			for i, p := range prefixes(n.Subnets) {
				if p.Addr().Is6() == is6 && p.Bits() < p.Addr().BitLen()-1 { // else it is for who is on it
					u = u.Plus(usage[i])
				}
			}
			if u.InUse > u.Reserved+1 {
				out = append(out, fullness(n, subnetsOf(n, is6), u.InUse, u.Free)...)
			}
		}
	}
	return out
}

// checkUplinks is about NICs that are to be ports of bridges.
func (e *Engine) checkUplinks(ctx context.Context) (out []Check) {
	all, err := e.Uplinks(ctx)
	if err != nil {
		return []Check{{CheckFail, "uplinks", err.Error(), "that they can be told"}}
	}
	for _, u := range all {
		if u.Status.State != StateReady {
			out = append(out, Check{CheckFail, "uplink " + u.NIC, u.Status.State + ": " + u.Status.Message, "as it was, or sealane uplink detach " + u.NIC})
		} else {
			out = append(out, fine("uplink "+u.NIC, "is attached to %s", u.Bridge))
		}
	}
	return out
}

// checkStore is about what this host shares with others.
func (e *Engine) checkStore() []Check {
	in, _, known := e.InTouch()
	v := e.overlayView()
	switch {
	case !known:
		return nil
	case in && v != nil && v.Copied != "":
		return []Check{{CheckFail, "cluster", v.Copied, "on that one: stop its daemon, then sealane daemon --teardown, remove its state directory and start it"}}
	case in:
		return []Check{fine("cluster", "the store answers")}
	case v == nil || v.LastError == "":
		return []Check{{CheckWarn, "cluster", "the store has not answered yet", "the log says what hinders, if it takes more than seconds"}}
	}
	return []Check{{CheckWarn, "cluster", v.LastError, "a store that answers this host: until then nothing that hosts share can change"}}
}

// checkFabrics is about networks over hosts that this host has no part of, though it should.
// Of the others their status tells.
func (e *Engine) checkFabrics() (out []Check) {
	here := map[string]bool{}
	for _, n := range e.Networks() {
		if n.Fabric != nil {
			here[n.Fabric.Key] = true
		}
	}
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(e.fabrics.runs)) {
		l := e.fabrics.runs[key]
		l.mu.Lock()
		why := obstacle(l.view, l.failed)
		l.mu.Unlock()
		if !here[key] && why != "" {
			out = append(out, Check{CheckFail, "fabric " + key, "this host has no part of it: " + why, "that mended: it joins by itself then"})
		}
	}
	return out
}

// fullness is about the subnets of a family of which somebody has addresses.
func fullness(n *model.Network, sub string, used, free uint64) []Check {
	c := Check{CheckWarn, n.Ref(), fmt.Sprintf("subnet %s: %d addresses are in use, %d free", sub, used, free), "a network with a larger subnet, or fewer containers on this one"}
	switch {
	case free == 0:
		c.State = CheckFail
	case free > used/9: // more than a tenth
		return nil
	}
	return []Check{c}
}

// checkSandboxes is about those that do not fare well.
func (e *Engine) checkSandboxes() (out []Check) {
	well := 0
	for _, sb := range e.sandboxes() {
		switch s := e.SandboxStatus(sb); s.State {
		case StateDegraded, StateConflict:
			out = append(out, Check{CheckFail, sb.Ref(), s.State + ": " + s.Message, "sealane inspect " + sb.Name + " says more"})
		case StateLost:
			out = append(out, Check{CheckWarn, sb.Ref(), "lost: " + s.Message, "sealane rm " + sb.Name})
		default:
			well++
		}
	}
	slices.SortFunc(out, func(a, b Check) int { return cmp.Compare(a.What, b.What) })
	return append([]Check{fine("sandboxes", "%d are as they should be", well)}, out...)
}

// checkOthers is about who else filters.
func (e *Engine) checkOthers() []Check {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []Check
	if text := compile.Helpless(e.facts); text != "" {
		out = append(out, Check{CheckFail, "firewalls", text, "docs/others.md says what cannot be helped"})
	}
	var tables []string
	for _, f := range e.facts.Filters {
		name := f.Table.Family + " " + f.Table.Name
		if f.Legacy {
			name = f.Table.Family + "tables-legacy"
		}
		if !slices.Contains(tables, name) {
			tables = append(tables, name)
		}
	}
	slices.Sort(tables)
	switch {
	case len(tables) == 0:
		out = append(out, fine("firewalls", "nobody else filters what passes the host"))
	case len(out) == 0:
		out = append(out, fine("firewalls", "others filter too: %s; sealane trace says what they do with a packet", strings.Join(tables, ", ")))
	}
	if e.facts.BridgeNetfilter {
		out = append(out, fine("br_netfilter", "is on: what containers of one bridge say to each other passes iptables, too"))
	}
	return out
}

// checkServers asks the host's name servers, all at the same time.
func (e *Engine) checkServers(ctx context.Context) []Check {
	if e.cfg.Health.Ask == nil {
		return nil
	}
	servers := e.cfg.Host().Servers
	if len(servers) == 0 {
		return []Check{{CheckWarn, "names", "the host has no name server", "a nameserver in /etc/resolv.conf"}}
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	out, dead := make([]Check, len(servers)), 0
	var mu sync.Mutex
	atOnce(len(servers), func(i int) {
		took, err := e.cfg.Health.Ask(ctx, servers[i])
		mu.Lock()
		defer mu.Unlock()
		if out[i] = fine("names", "server %s answers in %s", servers[i], took.Round(time.Millisecond)); err != nil {
			dead++
			out[i] = Check{CheckWarn, "names", fmt.Sprintf("server %s: %v", servers[i], err), "one in /etc/resolv.conf that answers"}
		}
	})
	for i := range out {
		if dead == len(out) {
			out[i].State = CheckFail
		}
	}
	return out
}

// checkRuntimes asks each runtime about a container that nobody has.
func (e *Engine) checkRuntimes(ctx context.Context) (out []Check) {
	if e.cfg.Health.Runtimes == nil || e.cfg.Guests == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	for _, r := range e.cfg.Health.Runtimes() {
		if _, err := e.cfg.Guests.Find(ctx, model.Guest{Runtime: r, Name: "sealane-doctor"}); err != nil {
			out = append(out, Check{CheckWarn, string(r), err.Error(), "that it runs, if containers of it are to be connected"})
			continue
		}
		out = append(out, fine(string(r), "answers"))
	}
	return out
}

func (e *Engine) checkPlugin() []Check {
	if e.cfg.Health.Plugin == nil {
		return nil
	}
	if err := e.cfg.Health.Plugin(); err != nil {
		return []Check{{CheckWarn, "docker plugin", err.Error(), "--docker-plugin where Docker looks and a restart of the daemon, or --docker-plugin '' if Docker is not to use it"}}
	}
	return []Check{fine("docker plugin", "Docker finds Sealane as a driver")}
}
