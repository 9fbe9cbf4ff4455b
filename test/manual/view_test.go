package manual

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// look prints what a network namespace has, and the files of whoever asks.
const look = `
part() { printf '\001%s\n' $1; }
part links; ip -j -d link
part addrs; ip -j addr
part routes; ip -4 route; ip -6 route
part others; ip -4 route show table all | grep ' table [0-9]'; ip -6 route show table all | grep ' table [0-9]'
part policies; (ip -4 rule; ip -6 rule) | grep -vE 'all lookup (local|main|default)$'
part neighbours; ip neigh show nud permanent
part forwarding; bridge fdb show | grep -E ' dst | sticky'
part tables; nft -y list ruleset
part sockets; ss -Hlntu
part namespace; readlink /proc/self/ns/net
part settings; grep -rs '' /proc/sys/net/ipv4 /proc/sys/net/ipv6
part hosts; cat /etc/hosts
part resolv; cat /etc/resolv.conf
true`

// view is what look printed.
type view struct {
	links     map[string]link
	addrs     []string // "DEVICE ADDRESS FLAGS"
	routes    []string
	policies  []string // rules that choose a table of routes
	neighs    []string // permanent, "DEVICE ADDRESS lladdr MAC"
	fdb       []string // "DEVICE MAC …"
	tables    []table
	sockets   []string // "PROTOCOL ADDRESS"
	namespace string
	settings  map[string]string
	hosts     []string
	resolv    []string
}

// link is a device's attributes, those of its type and those of a bridge's port.
type link map[string]string

// unstable are attributes that depend on the machine or the moment, and those
// that say what another one says.
var unstable = regexp.MustCompile(`^(group_fwd_mask_str|ifindex|link_index|link_netnsid|ifname|flags|operstate|linkmode|qdisc|broadcast|promiscuity|allmulti|` +
	`txqlen|cost|m(in|ax)_mtu|num_.*|[gt]s?r?o_.*|.*_timer|bridge_id|root_id|designated_.*|id|no|state|info_slave_kind)$`)

// read reads what look printed.
func read(t *testing.T, text string) *view {
	t.Helper()
	v := &view{}
	for _, part := range strings.Split(text, "\x01")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		switch name {
		case "links":
			v.links = readLinks(t, body)
		case "addrs":
			v.addrs = readAddrs(t, body)
		case "routes":
			v.routes = append(v.routes, lines(body)...)
		case "others":
			v.routes = append(v.routes, lines(body)...)
		case "policies":
			v.policies = lines(body)
		case "neighbours":
			v.neighs = byDevice(body)
		case "forwarding":
			v.fdb = byDevice(body)
		case "tables":
			v.tables = readTables(body)
		case "sockets":
			for _, l := range lines(body) {
				f := strings.Fields(l)
				v.sockets = append(v.sockets, f[0]+" "+f[4])
			}
		case "namespace":
			v.namespace = strings.TrimSpace(body)
		case "settings":
			v.settings = readSettings(body)
		case "hosts":
			v.hosts = lines(body)
		case "resolv":
			v.resolv = lines(body)
		}
	}
	v.bury()
	return v
}

// dying is the link group of devices that are on their way out.
const dying = "24226"

// bury leaves out devices that are on their way out.
func (v *view) bury() {
	for dev, l := range v.links {
		if l["group"] != dying {
			continue
		}
		delete(v.links, dev)
		v.addrs = slices.DeleteFunc(v.addrs, func(a string) bool { return strings.HasPrefix(a, dev+" ") })
		v.routes = slices.DeleteFunc(v.routes, func(r string) bool { return strings.Contains(r+" ", " dev "+dev+" ") })
		maps.DeleteFunc(v.settings, func(name, _ string) bool { return strings.Contains(name, "."+dev+".") })
	}
}

// lines are a text's lines with single blanks, without a carrier's flag.
func lines(text string) []string {
	var out []string
	for l := range strings.Lines(text) {
		if f := strings.Join(strings.Fields(l), " "); f != "" {
			out = append(out, strings.ReplaceAll(f, " linkdown", ""))
		}
	}
	return out
}

// byDevice puts the device first in lines that have it after dev.
func byDevice(text string) []string {
	var out []string
	for _, l := range lines(text) {
		if f := strings.Fields(strings.Replace(l, " PERMANENT", "", 1)); len(f) > 2 && f[1] == "dev" {
			out = append(out, strings.Join(append([]string{f[2], f[0]}, f[3:]...), " "))
		}
	}
	slices.Sort(out)
	return out
}

func readLinks(t *testing.T, body string) map[string]link {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("ip link: %v\n%s", err, body)
	}
	out := map[string]link{}
	for _, attrs := range all {
		l := link{"type": fmt.Sprint(attrs["link_type"])}
		info, _ := attrs["linkinfo"].(map[string]any)
		if kind, ok := info["info_kind"]; ok {
			l["type"] = fmt.Sprint(kind)
		}
		flags, _ := attrs["flags"].([]any)
		if slices.Contains(flags, any("UP")) {
			l["state"] = "up"
		}
		if slices.Contains(flags, any("NOARP")) {
			l["arp"] = "off"
		}
		if data, _ := info["info_data"].(map[string]any); l["type"] == "vxlan" {
			l["vni"] = fmt.Sprint(data["id"])
		}
		for _, group := range []any{attrs, info["info_data"], info["info_slave_data"]} {
			kv, _ := group.(map[string]any)
			for k, value := range kv {
				if _, nested := value.(map[string]any); !nested && !unstable.MatchString(k) && k != "link_type" {
					l[k] = fmt.Sprint(value)
				}
			}
		}
		out[fmt.Sprint(attrs["ifname"])] = l
	}
	return out
}

func readAddrs(t *testing.T, body string) []string {
	t.Helper()
	var all []struct {
		Name  string `json:"ifname"`
		Addrs []struct {
			Local         string
			Prefixlen     int
			Nodad         bool
			Noprefixroute bool
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("ip addr: %v\n%s", err, body)
	}
	var out []string
	for _, l := range all {
		for _, a := range l.Addrs {
			text := fmt.Sprintf("%s %s/%d", l.Name, a.Local, a.Prefixlen)
			if a.Nodad {
				text += " nodad"
			}
			if a.Noprefixroute {
				text += " noprefixroute"
			}
			out = append(out, text)
		}
	}
	return out
}

// readSettings reads "/proc/sys/net/ipv4/ip_forward:1".
func readSettings(body string) map[string]string {
	out := map[string]string{}
	for l := range strings.Lines(body) {
		path, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(l), "/proc/sys/"), ":")
		if ok {
			out[strings.ReplaceAll(path, "/", ".")] = strings.Join(strings.Fields(value), " ")
		}
	}
	return out
}

// perDevice finds the device in a setting's name.
var perDevice = regexp.MustCompile(`^(net\.ipv[46]\.conf\.)([^.]+)(\..*)$`)

// echoes are settings that follow others, or that the device says itself.
var echoes = regexp.MustCompile(`^net\.ipv[46]\.(neigh\..*|conf\..*\.(mtu|addr_gen_mode))$|^net\.ipv4\.conf\.all\.forwarding$`)

// changed lists the settings that are not as on a host without a daemon, those
// of a new device where they are not what a new device has. Forwarding on all
// devices stands for each.
func changed(now, before map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		was, ok := before[name]
		if p := perDevice.FindStringSubmatch(name); p != nil {
			all := now[p[1]+"all"+p[3]]
			if p[3] == ".forwarding" && p[2] != "all" && now[name] == all {
				continue
			}
			if !ok {
				was, ok = now[p[1]+"default"+p[3]]
			}
		}
		if !echoes.MatchString(name) && (!ok || was != now[name]) {
			out = append(out, name+"="+now[name])
		}
	}
	return out
}

// table is one of nftables, as nft lists it.
type table struct {
	name string // "inet sealane"
	sets []set
	// chains are in the order of the listing.
	chains []chain
}

type set struct {
	name  string
	typ   string // "ifname : verdict", and "interval"
	elems []string
}

type chain struct {
	name  string
	hook  string // "type filter hook forward priority -10", or ""
	rules []string
}

// readTables reads what nft lists. No string in it has a comma or a brace.
func readTables(text string) []table {
	var out []table
	var in string
	for l := range strings.Lines(text) {
		line := strings.Join(strings.Fields(l), " ")
		first, rest, _ := strings.Cut(line, " ")
		opens := strings.TrimSuffix(rest, " {")
		var t *table
		if len(out) > 0 {
			t = &out[len(out)-1]
		}
		switch {
		case line == "" || line == "}":
		case first == "table":
			out = append(out, table{name: opens})
		case (first == "set" || first == "map") && opens != rest:
			in = "set"
			t.sets = append(t.sets, set{name: opens})
		case first == "chain" && opens != rest:
			in = "chain"
			t.chains = append(t.chains, chain{name: opens})
		case in == "chain":
			c := &t.chains[len(t.chains)-1]
			if hook, ok := strings.CutSuffix(line, "; policy accept;"); ok {
				c.hook = hook
			} else {
				c.rules = append(c.rules, line)
			}
		default:
			t.sets[len(t.sets)-1].read(line)
		}
	}
	return out
}

// read reads a line of a set. Elements may go on over lines.
func (s *set) read(line string) {
	switch {
	case strings.HasPrefix(line, "type "):
		s.typ = strings.TrimPrefix(line, "type ")
		return
	case strings.HasPrefix(line, "flags "):
		s.typ += ", " + strings.TrimPrefix(line, "flags ")
		return
	}
	line = strings.TrimPrefix(line, "elements = { ")
	for e := range strings.SplitSeq(strings.TrimSuffix(line, " }"), ",") {
		if e = strings.TrimSpace(e); e != "" {
			s.elems = append(s.elems, strings.ReplaceAll(e, `"`, ""))
		}
	}
}
