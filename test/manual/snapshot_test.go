package manual

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// snapshot is what a host has, as lines. A line begins with its kind:
//
//	device slb<app> group 24225             what a new device would not have
//	address slb<app> 192.0.2.1/24
//	route 192.0.2.0/24 dev slb<app> …       of the main table, and of those that have a number
//	policy 24225: from all fwmark …         a rule that leads to one of these
//	neighbour slx<app> 192.0.2.3 lladdr …   that is permanent
//	forwarding slx<app> 02:42:… dst …       of a bridge or a vxlan device, if it leads to a host or stays
//	setting net.ipv4.ip_forward=1           what differs from a host without a daemon
//	held tcp 8080                           a port that no other program can bind
//	table, set, chain, rule, element        of nftables, with their table
//
// and in sandboxes "in web: device eth0 …" and so on, with the kinds socket, hosts
// and resolv besides. What is made of random IDs has names instead: <app> is
// the ID of network app, <web> that of sandbox web, <web/app> that of its endpoint; <shop>
// and <shop6> are the addresses of service shop; <b> is the hardware address of host b's
// device of the mesh.
type snapshot struct {
	lines  []string
	has    map[string]bool
	tables []table
}

// look looks at the host and all its sandboxes.
func (m *manual) look() *snapshot {
	m.t.Helper()
	s := &snapshot{has: map[string]bool{}}
	names, sandboxes := m.names()
	host := read(m.t, m.host.Must("bash", "-c", look))
	host.name(names, proxyPort(host.tables))
	s.tables = host.tables
	s.add("", m.portrait(host, true))
	s.add("", m.held(host.tables))
	owners := map[string]string{host.namespace: "the host"}
	seen := map[string]*view{"the host": host}
	for _, name := range sandboxes {
		v := read(m.t, m.host.Must("sealane", "exec", name, "--", "bash", "-c", look))
		v.name(names, "")
		owner, shares := owners[v.namespace]
		if !shares {
			owners[v.namespace], seen[name] = name, v
			s.add("in "+name+": ", append(m.portrait(v, false), files(v)...))
			continue
		}
		v.hosts, v.resolv = same(v.hosts, seen[owner].hosts, owner), same(v.resolv, seen[owner].resolv, owner)
		s.add("in "+name+": ", append([]string{"namespace of " + owner}, files(v)...))
	}
	return s
}

// same says so where a file is the same as that of the namespace's owner.
func same(lines, owners []string, owner string) []string {
	if slices.Equal(lines, owners) {
		return []string{"of " + owner}
	}
	return lines
}

func (s *snapshot) add(where string, lines []string) {
	for _, l := range lines {
		if l = where + l; !s.has[l] {
			s.has[l] = true
			s.lines = append(s.lines, l)
		}
	}
}

// beyond lists what s has and other has not.
func (s *snapshot) beyond(other *snapshot) []string {
	return slices.DeleteFunc(slices.Clone(s.lines), func(l string) bool { return other.has[l] })
}

// names returns what stands for the IDs, and the names of the sandboxes, those
// with a namespace of their own first.
func (m *manual) names() (*strings.Replacer, []string) {
	var nets []struct {
		ID, Name  string
		Endpoints []struct{ ID, Sandbox string }
	}
	type sandbox struct{ ID, Name, Mode string }
	var boxes []sandbox
	if r := m.host.Run("sealane", "network", "ls", "-o", "json"); r.Code != 0 {
		return strings.NewReplacer(), nil // no daemon
	} else if err := json.Unmarshal([]byte(r.Stdout), &nets); err != nil {
		m.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(m.host.Must("sealane", "ps", "-a", "-o", "json")), &boxes); err != nil {
		m.t.Fatal(err)
	}
	var pairs, sandboxes []string
	for _, n := range nets {
		if n.ID != n.Name {
			pairs = append(pairs, n.ID, "<"+n.Name+">")
		}
		for _, e := range n.Endpoints {
			pairs = append(pairs, e.ID, "<"+e.Sandbox+"/"+n.Name+">")
		}
	}
	pairs = append(pairs, m.vips()...)
	pairs = append(pairs, m.far()...)
	rank := map[string]int{"own": -1}
	slices.SortFunc(boxes, func(a, b sandbox) int {
		return cmp.Or(rank[a.Mode]-rank[b.Mode], cmp.Compare(a.Name, b.Name))
	})
	for _, b := range boxes {
		pairs = append(pairs, b.ID, "<"+b.Name+">")
		sandboxes = append(sandboxes, b.Name)
	}
	return strings.NewReplacer(pairs...), sandboxes
}

// vips are the addresses of services, which nobody chose, and what stands for them.
func (m *manual) vips() (pairs []string) {
	var services []struct {
		Name string
		VIPs []string
	}
	if err := json.Unmarshal([]byte(m.host.Must("sealane", "service", "ls", "-o", "json")), &services); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range services {
		for _, a := range s.VIPs {
			name := "<" + s.Name + ">"
			if strings.Contains(a, ":") {
				name = "<" + s.Name + "6>"
			}
			pairs = append(pairs, a, name)
		}
	}
	return pairs
}

// far is the hardware address of the other host in the mesh, and what stands for it.
func (m *manual) far() []string {
	if m.peer == nil {
		return nil
	}
	mac := strings.TrimSpace(m.peer.Run("cat", "/sys/class/net/"+model.MeshDevice+"/address").Stdout)
	if mac == "" {
		return nil
	}
	return []string{mac, "<" + m.peer.Name + ">"}
}

// proxyPort is where to_proxy sends packets.
func proxyPort(tables []table) string {
	for _, t := range tables {
		for _, c := range t.chains {
			for _, r := range c.rules {
				if _, port, ok := strings.Cut(r, " dnat to :"); ok && c.name == "to_proxy" {
					return port
				}
			}
		}
	}
	return ""
}

// name puts names in the place of IDs and of ports that the kernel chose.
func (v *view) name(names *strings.Replacer, proxy string) {
	fix := func(list []string) {
		for i, l := range list {
			list[i] = names.Replace(l)
		}
	}
	links := map[string]link{}
	var whose []string // addresses made of IDs
	for dev, l := range v.links {
		for k, value := range l {
			l[k] = names.Replace(value)
		}
		if named := names.Replace(dev); named != dev || dev == "sealane0" || dev == model.MeshDevice {
			whose = append(whose, l["address"], named+"'s address")
			l["address"] = "made of the ID"
			dev = named
		}
		links[dev] = l
	}
	v.links = links
	fix(v.addrs)
	fix(v.routes)
	fix(v.neighs)
	fix(v.fdb)
	settings := map[string]string{}
	for k, value := range v.settings {
		settings[names.Replace(k)] = value
	}
	v.settings = settings
	ports, addresses := v.resolver(), strings.NewReplacer(whose...)
	for i, l := range v.neighs {
		v.neighs[i] = addresses.Replace(l)
	}
	slices.Sort(v.neighs)
	for i := range v.tables {
		t := &v.tables[i]
		for j := range t.sets {
			fix(t.sets[j].elems)
			for k, e := range t.sets[j].elems {
				t.sets[j].elems[k] = addresses.Replace(e)
			}
			slices.Sort(t.sets[j].elems)
			seated(t.sets[j].elems)
		}
		for j := range t.chains {
			for k, r := range t.chains[j].rules {
				if proxy != "" {
					r = regexp.MustCompile(`(dport |dnat to :)`+proxy+`\b`).ReplaceAllString(r, "${1}<proxy>")
				}
				t.chains[j].rules[k] = ports.Replace(names.Replace(r))
			}
		}
	}
	for i, s := range v.sockets {
		v.sockets[i] = ports.Replace(s)
	}
}

// numbered finds the number of a backend, and what is before and after it.
var numbered = regexp.MustCompile(`^(.* \. )(0x[0-9a-f]{8}) : (.*)$`)

// seated puts the backends that a service has in order: which one has which number depends
// on IDs.
func seated(elems []string) {
	backends := map[string][]string{}
	for _, e := range elems {
		if m := numbered.FindStringSubmatch(e); m != nil {
			backends[m[1]] = append(backends[m[1]], m[3])
		}
	}
	for _, list := range backends {
		slices.Sort(list)
	}
	for i, e := range elems {
		if m := numbered.FindStringSubmatch(e); m != nil {
			elems[i] = m[1] + m[2] + " : " + backends[m[1]][0]
			backends[m[1]] = backends[m[1]][1:]
		}
	}
}

// resolver names the ports where the daemon's resolver listens in a sandbox.
func (v *view) resolver() *strings.Replacer {
	var pairs []string
	for _, s := range v.sockets {
		if proto, port, ok := strings.Cut(s, " 127.0.0.11:"); ok && port != "53" {
			pairs = append(pairs, port, "<"+proto+">")
		}
	}
	return strings.NewReplacer(pairs...)
}

// portrait is what a namespace has, as lines without sockets and files.
func (m *manual) portrait(v *view, host bool) []string {
	var out []string
	for _, dev := range slices.Sorted(maps.Keys(v.links)) {
		for _, k := range slices.Sorted(maps.Keys(v.links[dev])) {
			if m.fresh(v.links[dev])[k] != v.links[dev][k] || k == "type" {
				out = append(out, fmt.Sprintf("device %s %s %s", dev, k, v.links[dev][k]))
			}
		}
	}
	slices.Sort(v.addrs)
	for _, a := range v.addrs {
		out = append(out, "address "+a)
	}
	for _, r := range v.routes {
		out = append(out, "route "+r)
	}
	for _, p := range v.policies {
		out = append(out, "policy "+p)
	}
	for _, n := range v.neighs {
		out = append(out, "neighbour "+n)
	}
	for _, f := range v.fdb {
		out = append(out, "forwarding "+f)
	}
	for _, s := range changed(v.settings, m.settings) {
		out = append(out, "setting "+s)
	}
	for _, t := range v.tables {
		out = append(out, "table "+t.name)
		for _, c := range t.chains {
			out = append(out, "chain "+t.name+" "+c.name)
			for _, r := range c.rules {
				out = append(out, "rule "+t.name+" "+c.name+" "+r)
			}
		}
		for _, s := range t.sets {
			out = append(out, "set "+t.name+" "+s.name)
			for _, e := range s.elems {
				out = append(out, "element "+t.name+" "+s.name+" "+e)
			}
		}
	}
	if !host {
		for _, s := range v.sockets {
			out = append(out, "socket "+s)
		}
	}
	return out
}

// fresh is a new device of the same kind.
func (m *manual) fresh(l link) link {
	kind := l["type"]
	if l["type"] == "veth" && l["master"] != "" {
		kind = "port"
	}
	return m.devices[kind]
}

func files(v *view) []string {
	var out []string
	for _, l := range v.hosts {
		out = append(out, "hosts "+l)
	}
	for _, l := range v.resolv {
		out = append(out, "resolv "+l)
	}
	return out
}

// holding finds the maps of ports that are kept from other programs.
var holding = regexp.MustCompile(`^(ports|ranges|published)`)

// held lists the published ports that another program tried to bind, in vain;
// of ranges the first and the last one.
func (m *manual) held(tables []table) []string {
	var out []string
	for _, t := range tables {
		for _, s := range t.sets {
			if !holding.MatchString(s.name) {
				continue
			}
			for _, e := range s.elems {
				key, _, _ := strings.Cut(e, " : ")
				f := strings.Split(key, " . ")
				if len(f) == 2 {
					f = slices.Insert(f, 0, "")
				}
				for port := range strings.SplitSeq(f[2], "-") {
					if m.bound(f[1], f[0], port) {
						out = append(out, fmt.Sprintf("held %s %s", f[1], strings.TrimPrefix(net.JoinHostPort(f[0], port), ":")))
					}
				}
			}
		}
	}
	return out
}

// bound reports whether a program on the host is refused a port.
func (m *manual) bound(proto, addr, port string) bool {
	r := m.host.Run("timeout", "10", "lab-echo", "serve", "-addr", addr, "-"+proto, port)
	return r.Code != 124 // timeout had to end it
}
