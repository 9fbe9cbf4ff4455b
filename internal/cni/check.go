package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// check compares what ADD has said with what the daemon intends, and that with
// what the kernel holds.
func check(ctx context.Context, r *request) (any, error) {
	if len(r.config.prev) == 0 {
		return nil, errorf(codeConfig, "prevResult: missing: CHECK compares with it")
	}
	prev, err := r.config.previous()
	if err != nil {
		return nil, err
	}
	ref := api.ContainerRef + r.env.container
	now, err := r.client.SandboxDiff(ctx, ref) // first: the daemon may take over what later plugins did
	if err != nil {
		return nil, err
	}
	sb, err := r.client.Sandbox(ctx, ref)
	if err != nil {
		return nil, err
	}
	name := r.config.network.Name
	i := slices.IndexFunc(sb.Endpoints, func(e api.Endpoint) bool {
		return e.Network == name && e.IfName == r.env.ifname && e.Container == r.env.container
	})
	if i < 0 {
		return nil, errorf(codeContainer, "container %s: has no interface %s on network %s", r.env.container, r.env.ifname, name)
	}
	wrong := r.compare(prev, sb, sb.Endpoints[i], now.Added)
	for _, op := range now.Ops {
		wrong = append(wrong, inWords(op))
	}
	if now.Deaf {
		wrong = append(wrong, "missing: the rules in the container that lead questions for names to the resolver")
	}
	if len(wrong) > 0 {
		return nil, errorf(codeDiffers, "container %s: network %s: %w", r.env.container, name, errors.New(strings.Join(few(wrong), "; ")))
	}
	return nil, nil
}

// few are as many differences as somebody reads: without its tables the firewall is
// hundreds.
func few(wrong []string) []string {
	const most = 10
	if len(wrong) <= most {
		return wrong
	}
	return append(wrong[:most:most], fmt.Sprintf("and %d more, which sealane diff shows", len(wrong)-most))
}

// inWords says what an op that a repair would need means.
func inWords(op string) string {
	for _, sign := range [][2]string{{"+ ", "missing: "}, {"~ ", "not as here: "}, {"- ", "not intended: "}} {
		if rest, ok := strings.CutPrefix(op, sign[0]); ok {
			return sign[1] + rest
		}
	}
	return op
}

// compare says where a result is not what the daemon intends. Addresses that are
// there too may be a later plugin's.
func (r *request) compare(prev *current.Result, sb api.Sandbox, ep api.Endpoint, added []api.AddedAddress) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	at := slices.IndexFunc(prev.Interfaces, func(i *current.Interface) bool {
		return i != nil && i.Name == ep.IfName && i.Sandbox == r.env.netns
	})
	if at < 0 {
		return []string{fmt.Sprintf("prevResult: has no interface %s in %s", ep.IfName, r.env.netns)}
	}
	if mac := prev.Interfaces[at].Mac; mac != "" && !strings.EqualFold(mac, ep.MAC) {
		say("interface %s: prevResult says mac %s, intended is %s", ep.IfName, mac, ep.MAC)
	}
	if ep.Device != "" && !slices.ContainsFunc(prev.Interfaces, func(i *current.Interface) bool { return i != nil && i.Name == ep.Device && i.Sandbox == "" }) {
		say("interface %s: prevResult does not have it", ep.Device)
	}
	had := addresses(prev, at)
	for _, p := range had {
		if !slices.Contains(ep.Addresses, p) && !slices.Contains(added, api.AddedAddress{IfName: ep.IfName, Address: p}) {
			say("address %s: prevResult says so, intended is %v", p, ep.Addresses)
		}
	}
	for _, p := range ep.Addresses {
		if !slices.Contains(had, p) {
			say("address %s: prevResult does not have it", p)
		}
	}
	asked, is := r.config.runtime.Bandwidth, ep.EndpointLimits
	for _, b := range []struct {
		name      string
		asked, is uint64
	}{
		{"ingressRate", asked.IngressRate, is.IngressRate}, {"ingressBurst", asked.IngressBurst, is.IngressBurst},
		{"egressRate", asked.EgressRate, is.EgressRate}, {"egressBurst", asked.EgressBurst, is.EgressBurst},
	} {
		if b.asked != 0 && b.asked != b.is {
			say("bandwidth: runtimeConfig says %s %d, intended is %d", b.name, b.asked, b.is)
		}
	}
	wrong = append(wrong, r.config.runtime.unpublished(sb.Ports)...)
	return append(wrong, routes(prev, sb)...)
}

// unpublished says which ports a runtime wants published and are not.
func (r runtimeConfig) unpublished(have []api.Port) []string {
	want, err := r.published()
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, text := range want {
		m, err := model.ParsePort(text)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		if !slices.ContainsFunc(have, func(p api.Port) bool {
			at := m.Port - p.Port
			return p.Protocol == m.Proto && m.Port >= p.Port && at < p.Count &&
				(p.Idle || p.HostPort+at == m.HostPort && (p.HostIP == m.HostIP || !m.HostIP.IsValid()))
		}) {
			wrong = append(wrong, fmt.Sprintf("portMappings: runtimeConfig says %s, which is not published", text))
		}
	}
	return wrong
}

// addresses are those of one interface of a result.
func addresses(prev *current.Result, at int) []netip.Prefix {
	var out []netip.Prefix
	for _, ip := range prev.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != at {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			bits, _ := ip.Address.Mask.Size()
			out = append(out, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return out
}

// routes looks for default routes of a result in the sandbox. Another network
// that the container joined later may give them now.
func routes(prev *current.Result, sb api.Sandbox) []string {
	var wrong []string
	for _, route := range prev.Routes {
		if route == nil || route.GW == nil {
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones > 0 || !route.Dst.IP.IsUnspecified() {
			continue // another plugin's
		}
		is6 := route.GW.To4() == nil
		if !slices.ContainsFunc(sb.Endpoints, func(e api.Endpoint) bool {
			return slices.ContainsFunc(e.Routes, func(have api.Route) bool { return have.Via.Is6() == is6 })
		}) {
			wrong = append(wrong, fmt.Sprintf("route %s via %s: is not intended", route.Dst.String(), route.GW))
		}
	}
	return wrong
}
