package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Dir returns the directory of a sandbox's files.
func Dir(runDir string, id model.ID) string { return path.Join(runDir, "sandboxes", string(id)) }

// files returns what is bound over /etc/hosts, /etc/hostname and
// /etc/resolv.conf in a sandbox.
func files(sb *model.Sandbox, f Facts) []kstate.Object {
	dir := Dir(f.RunDir, sb.ID)
	return []kstate.Object{
		kstate.File{Path: path.Join(dir, "hosts"), Content: hosts(sb)},
		kstate.File{Path: path.Join(dir, "hostname"), Content: sb.Hostname + "\n"},
		kstate.File{Path: path.Join(dir, "resolv.conf"), Content: resolv(sb, f.Resolv)},
	}
}

// hosts is /etc/hosts as Docker writes it: localhost, the sandbox's own names
// for each of its addresses, then what --add-host gave.
func hosts(sb *model.Sandbox) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	own := sb.Hostname
	if sb.Domain != "" {
		own = sb.Hostname + "." + sb.Domain + " " + sb.Hostname
	}
	for _, e := range sb.Endpoints {
		for _, p := range e.Addrs {
			fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), own)
		}
	}
	if len(sb.Endpoints) == 0 {
		fmt.Fprintf(&b, "127.0.1.1\t%s\n", own)
	}
	for _, h := range sb.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.Addr, h.Name)
	}
	return b.String()
}

// resolv is resolv.conf: what the sandbox asked for, and the host's for what
// it did not.
func resolv(sb *model.Sandbox, host model.DNS) string {
	servers, search, options := sb.DNS.Servers, sb.DNS.Search, sb.DNS.Options
	if len(servers) == 0 {
		servers = host.Servers
	}
	if len(search) == 0 {
		search = host.Search
	}
	if len(options) == 0 {
		options = host.Options
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
// which are not the sandbox's own.
func ParseResolv(text string) model.DNS {
	var d model.DNS
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() && a.Zone() == "" {
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
	kv := map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		"net.ipv4.ping_group_range":           "0 2147483647",
	}
	maps.Copy(kv, sb.Sysctls)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		out = append(out, k+"="+kv[k])
	}
	return out
}
