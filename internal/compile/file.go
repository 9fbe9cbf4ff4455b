package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Dir returns the directory of a sandbox's files.
func Dir(runDir string, id model.ID) string { return path.Join(runDir, "sandboxes", string(id)) }

// files returns what is bound over /etc/hosts, /etc/hostname and
// /etc/resolv.conf in a sandbox.
func files(sb *model.Sandbox, in Intent, f Facts) []kstate.Object {
	dir := Dir(f.RunDir, sb.ID)
	return []kstate.Object{
		kstate.File{Path: path.Join(dir, "hosts"), Content: hosts(sb, in)},
		kstate.File{Path: path.Join(dir, "hostname"), Content: sb.Hostname + "\n"},
		kstate.File{Path: path.Join(dir, "resolv.conf"), Content: resolv(sb, in.Networks, f)},
	}
}

// hosts is /etc/hosts as Docker writes it: localhost, the sandbox's own names
// for each of its addresses, what --add-host gave, and links on the default
// network.
func hosts(sb *model.Sandbox, in Intent) string {
	var b strings.Builder
	line := func(a netip.Addr, names ...string) { fmt.Fprintf(&b, "%s\t%s\n", a, strings.Join(names, " ")) }
	b.WriteString("127.0.0.1\tlocalhost\n")
	if sb.Sysctls["net.ipv6.conf.all.disable_ipv6"] != "1" {
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	own := names(sb)
	for _, e := range sb.Endpoints {
		for _, p := range slices.Concat(e.Addrs, e.Outside) {
			line(p.Addr(), own...)
		}
	}
	if len(sb.Endpoints) == 0 {
		line(netip.AddrFrom4([4]byte{127, 0, 1, 1}), own...)
	}
	for _, h := range sb.Hosts {
		if !h.Gateway {
			line(h.Addr, h.Name)
			continue
		}
		for _, a := range hostAddrs(sb, in.Networks) {
			line(a, h.Name)
		}
	}
	for _, l := range sb.Links {
		to := in.Linked(l)
		if _, e := legacy(sb, to, in.Networks); e != nil {
			for _, p := range e.Addrs {
				line(p.Addr(), slices.Compact([]string{l.Alias, to.Hostname, to.Name})...)
			}
		}
	}
	return b.String()
}

// names are a sandbox's own: the whole one, its host name, which may have a
// domain in it, and that without.
func names(sb *model.Sandbox) []string {
	whole := sb.Hostname
	if sb.Domain != "" {
		whole += "." + sb.Domain
	}
	short, _, _ := strings.Cut(sb.Hostname, ".")
	return slices.Compact([]string{whole, sb.Hostname, short})
}

// hostAddrs are the addresses at which a sandbox reaches the host: the gateways
// of its default routes, or else of the default network.
func hostAddrs(sb *model.Sandbox, nets map[model.ID]*model.Network) []netip.Addr {
	var out []netip.Addr
	for _, is6 := range []bool{false, true} {
		if e := Carrier(sb, nets, is6); e != nil && nets[e.Network].OnBridge(is6) {
			sub, _ := nets[e.Network].Subnet(is6)
			out = append(out, sub.Gateway)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, n := range nets {
		if n.Name == model.NetworkBridge {
			for _, sub := range n.Subnets {
				out = append(out, sub.Gateway)
			}
		}
	}
	return out
}

// Resolver is where the daemon's resolver answers in a sandbox, as Docker's.
var Resolver = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Resolves reports whether a sandbox has the daemon's resolver: it is ours, and
// on a network whose containers have names for each other. The default network
// has none, as in Docker; there the resolver helps only where the host's servers
// are on loopback addresses, which a sandbox cannot ask itself.
func Resolves(sb *model.Sandbox, nets map[model.ID]*model.Network, f Facts) bool {
	if sb.Mode != model.ModeOwn && !sb.Resolver || !sb.Live() {
		return false
	}
	return len(sb.DNS.Servers)+len(f.Resolv.Servers) == 0 && len(sb.Endpoints) > 0 ||
		slices.ContainsFunc(sb.Endpoints, func(e model.Endpoint) bool {
			n := nets[e.Network]
			return n != nil && n.Name != model.NetworkBridge
		})
}

// resolv is resolv.conf: the daemon's resolver, which asks the others, or what
// the sandbox asked for, what DHCP servers told it, and the host's for the rest.
func resolv(sb *model.Sandbox, nets map[model.ID]*model.Network, f Facts) string {
	servers, search, options := sb.DNS.Servers, sb.DNS.Search, sb.DNS.Options
	leased := sb.LeasedDNS()
	if len(servers) == 0 {
		servers = leased.Servers
	}
	if len(search) == 0 {
		search = leased.Search
	}
	if len(servers) == 0 {
		servers = f.Resolv.Servers
	}
	if len(search) == 0 {
		search = f.Resolv.Search
	}
	if len(options) == 0 {
		options = f.Resolv.Options
	}
	if Resolves(sb, nets, f) {
		servers = []netip.Addr{Resolver}
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(slices.Clone(options), "ndots:0")
		}
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s.String() + "\n")
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}

// ParseResolv reads a resolv.conf, leaving out servers on loopback addresses,
// which are not the sandbox's own, and link-local ones, which are of a device that it
// has not.
func ParseResolv(text string) model.DNS {
	var d model.DNS
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() && (a.Is4() || !a.IsLinkLocalUnicast()) {
				d.Servers = append(d.Servers, a)
			}
		case "search", "domain":
			d.Search = f[1:]
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}

// sandboxSysctls are the settings a sandbox of ours starts with: any process
// may use low ports and ping, as in Docker, and what --sysctl gave.
func sandboxSysctls(sb *model.Sandbox) []string {
	const lowPorts = "net.ipv4.ip_unprivileged_port_start"
	kv := map[string]string{
		lowPorts:                    "0",
		"net.ipv4.ping_group_range": "0 2147483647",
	}
	maps.Copy(kv, sb.Sysctls)
	keys := slices.Sorted(maps.Keys(kv))
	// It may never be above ip_local_port_range: what lowers it comes first.
	if n, err := strconv.Atoi(kv[lowPorts]); err == nil && n <= 1024 {
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == lowPorts })
		keys = slices.Insert(keys, 0, lowPorts)
	}
	var out []string
	for _, k := range keys {
		out = append(out, k+"="+kv[k])
	}
	return out
}
