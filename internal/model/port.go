package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PortMapping publishes container ports on the host: host port HostPort+i goes
// to container port Port+i, for i below Count.
type PortMapping struct {
	Proto    string     `json:"protocol"`        // "tcp", "udp" or "sctp"
	HostIP   netip.Addr `json:"hostIP,omitzero"` // zero: every address of the host; 0.0.0.0 and ::, those of one family
	HostPort uint16     `json:"hostPort"`        // 0 until one is allocated
	Port     uint16     `json:"port"`            // in the container
	Count    uint16     `json:"count"`           // at least 1
	// HostEnd, when set, offers HostPort..HostEnd to choose one port from. It
	// is zero once a port is allocated.
	HostEnd uint16  `json:"hostEnd,omitempty"`
	From    Clients `json:"from,omitempty"` // who may use it
	// Bound: the user named no host address, so HostIP is what the network with
	// the default route says, and changes with it.
	Bound bool `json:"bound,omitempty"`
	// Idle: the sandbox is on no network whose addresses are rewritten, so the
	// port takes none of the host's. On a routed one it is open at the
	// container's own address.
	Idle bool `json:"idle,omitempty"`
	// Endpoint, if not empty, is the one that the port came with and goes with, but for
	// those that it came with Also: their IDs, with spaces between them.
	Endpoint ID     `json:"endpoint,omitempty"`
	Also     string `json:"also,omitempty"`
	// Added: a user published it of a container engine's container, whose own ports come
	// and go as the engine says. While the engine has that on no network, it is the
	// guest's that stands for it, and idle.
	Added bool `json:"added,omitempty"`
}

// wantProto is what errors about a protocol ask for.
const wantProto = "want tcp, udp or sctp"

func isProto(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

// Clients are the prefixes that may use a port, written as "CIDR;CIDR" in
// order; "" is everyone. It is a string so that mappings can be compared.
type Clients string

// ParseClients reads "CIDR;CIDR" or "CIDR,CIDR"; a bare address is one client.
func ParseClients(s string) (Clients, error) {
	var all []netip.Prefix
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == ',' }) {
		p, err := netip.ParsePrefix(f)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(f); err == nil && a.Zone() == "" {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if !p.IsValid() || p.Addr().Is4In6() {
			return "", fmt.Errorf("from %q: want CIDR;CIDR, as 192.0.2.0/24;2001:db8::/32", f)
		}
		if p != p.Masked() {
			return "", fmt.Errorf("from %s: host bits are set, should be %s", p, p.Masked())
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return "", fmt.Errorf("from %q: no prefix", s)
	}
	return joinClients(all), nil
}

// joinClients leaves out what another prefix covers: the kernel refuses
// overlapping intervals.
func joinClients(all []netip.Prefix) Clients {
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	var kept []string
	for i, p := range all {
		if !slices.ContainsFunc(all[:i], func(q netip.Prefix) bool { return q.Overlaps(p) }) {
			kept = append(kept, p.String())
		}
	}
	return Clients(strings.Join(kept, ";"))
}

// Prefixes returns the prefixes of a family.
func (c Clients) Prefixes(is6 bool) []netip.Prefix {
	var out []netip.Prefix
	for f := range strings.SplitSeq(string(c), ";") {
		if p, err := netip.ParsePrefix(f); err == nil && p.Addr().Is6() == is6 {
			out = append(out, p)
		}
	}
	return out
}

// Allows reports whether a client may use the port.
func (c Clients) Allows(a netip.Addr) bool {
	return c == "" || slices.ContainsFunc(c.Prefixes(a.Unmap().Is6()), func(p netip.Prefix) bool { return p.Contains(a.Unmap().WithZone("")) })
}

// String is the mapping as `-p` takes it, with the protocol.
func (m PortMapping) String() string {
	span := func(first uint16) string {
		if m.Count > 1 {
			return fmt.Sprintf("%d-%d", first, first+m.Count-1)
		}
		return strconv.Itoa(int(first))
	}
	host := ""
	if m.HostIP.IsValid() {
		host = m.HostIP.String() + ":"
		if m.HostIP.Is6() {
			host = "[" + m.HostIP.String() + "]:"
		}
	}
	switch {
	case m.HostEnd != 0:
		host += fmt.Sprintf("%d-%d:", m.HostPort, m.HostEnd)
	case m.HostPort != 0:
		host += span(m.HostPort) + ":"
	case host != "":
		host += ":"
	}
	s := host + span(m.Port) + "/" + m.Proto
	if m.From != "" {
		s += " from " + string(m.From)
	}
	return s
}

// HostLast returns the last host port.
func (m PortMapping) HostLast() uint16 { return m.HostPort + m.Count - 1 }

// Meet reports whether two host addresses of mappings have an address in
// common: an unset one is every address, 0.0.0.0 and [::] all of one family.
func Meet(a, b netip.Addr) bool {
	return a == b || !a.IsValid() || !b.IsValid() ||
		a.Is6() == b.Is6() && (a.IsUnspecified() || b.IsUnspecified())
}

// Validate reports the first thing that makes m impossible. What ParsePort
// returns is valid.
func (m PortMapping) Validate() error {
	switch {
	case !isProto(m.Proto):
		return fmt.Errorf("port %s: protocol %q: %s", m, m.Proto, wantProto)
	case m.Port == 0 || m.Count == 0 || int(m.Port)+int(m.Count)-1 > 65535 || int(m.HostPort)+int(m.Count)-1 > 65535:
		return fmt.Errorf("port %s: want ports from 1 to 65535", m)
	case m.HostEnd != 0 && (m.Count != 1 || m.HostPort == 0 || m.HostEnd < m.HostPort):
		return fmt.Errorf("port %s: want one container port and a range FIRST-LAST to choose from", m)
	case m.HostIP.IsMulticast(), m.HostIP.Zone() != "", m.HostIP.Is4In6():
		return fmt.Errorf("port %s: host address %s: want one of this host's, or none for every address", m, m.HostIP)
	}
	if m.From != "" {
		if c, err := ParseClients(string(m.From)); err != nil || c != m.From {
			return fmt.Errorf("port %s: from %q: want prefixes in order", m, m.From)
		}
	}
	return nil
}

// With returns the port as one that came with another endpoint too.
func (m PortMapping) With(id ID) PortMapping {
	if m.Endpoint != "" {
		m.Also = strings.TrimSpace(m.Also + " " + string(id))
	}
	return m
}

// Plain returns the port whatever it came with.
func (m PortMapping) Plain() PortMapping {
	m.Endpoint, m.Also = "", ""
	return m
}

// Without returns the port as it is when an endpoint goes. It reports whether it stays.
func (m PortMapping) Without(id ID) (_ PortMapping, stays bool) {
	also := strings.Fields(m.Also)
	if m.Endpoint == id {
		if len(also) == 0 {
			return m, false
		}
		m.Endpoint, also = ID(also[0]), also[1:]
	}
	m.Also = strings.Join(slices.DeleteFunc(also, func(s string) bool { return s == string(id) }), " ")
	return m, true
}

// Matches reports whether m, as a user writes it, means the published mapping
// p: the same protocol and container ports, and the same host address, host port and
// clients where m has them.
func (m PortMapping) Matches(p PortMapping) bool {
	return m.Among(p) && m.Port == p.Port && m.Count == p.Count
}

// Among reports whether the port that m begins with, as a user writes it, is one
// of those of p.
func (m PortMapping) Among(p PortMapping) bool {
	return m.Proto == p.Proto && m.Port >= p.Port && m.Port-p.Port < p.Count &&
		(!m.HostIP.IsValid() || m.HostIP == p.HostIP) && (m.From == "" || m.From == p.From) &&
		(m.HostPort == 0 || m.HostPort-p.HostPort == m.Port-p.Port)
}

// ParsePort reads Docker's forms of -p:
//
//	[HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp|sctp]
//	PORT[-END][/tcp|udp|sctp]
//
// An IPv6 host address stands in brackets; 0.0.0.0 and [::] are all addresses
// of one family, and an empty one those of both. Without a host port, or with 0,
// a free one is chosen; a host range with a single container port offers the range
// to choose from. It also reads the long form, with who may use the port:
//
//	published=8080,target=80,protocol=tcp,host-ip=A,from=CIDR;CIDR
func ParsePort(s string) (PortMapping, error) {
	if strings.Contains(s, "=") {
		return parseLongPort(s)
	}
	m := PortMapping{Proto: "tcp"}
	bad := func(format string, args ...any) (PortMapping, error) {
		return PortMapping{}, fmt.Errorf("port %q: %s", s, fmt.Sprintf(format, args...))
	}
	rest := s
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		rest, m.Proto = rest[:i], strings.ToLower(rest[i+1:])
		if !isProto(m.Proto) {
			return bad("protocol %q: %s", m.Proto, wantProto)
		}
	}
	target := rest
	host := ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, target = rest[:i], rest[i+1:]
	}
	first, last, err := parseSpan(target)
	if err != nil {
		return bad("container port %v", err)
	}
	m.Port, m.Count = first, last-first+1
	if host == "" && target == rest {
		return m, nil
	}
	hostPort := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		hostPort = host[i+1:]
		if m.HostIP, err = parsePortIP(host[:i]); err != nil {
			return bad("host address %v", err)
		}
	}
	if err := m.publishAt(hostPort, "host port"); err != nil {
		return bad("%v", err)
	}
	return m, nil
}

// publishAt sets the ports of the host, which errors call what; "" and "0" are any
// that is free.
func (m *PortMapping) publishAt(ports, what string) error {
	if ports == "" || ports == "0" {
		return nil
	}
	first, last, err := parseSpan(ports)
	if err != nil {
		return fmt.Errorf("%s %w", what, err)
	}
	m.HostPort = first
	switch n := last - first + 1; {
	case n == m.Count:
	case m.Count == 1:
		m.HostEnd = last
	default:
		return fmt.Errorf("%d host ports for %d container ports: want as many, or one container port", n, m.Count)
	}
	return nil
}

// parsePortIP reads the host address of a port; "" is every address, as a variable
// that is empty leaves it.
func parsePortIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		bare, bracketed = strings.CutSuffix(bare, "]")
	}
	a, err := netip.ParseAddr(bare)
	if err == nil && bracketed && a.Zone() != "" {
		return a, fmt.Errorf("%q: want [%s], which is the address on whichever device has it", s, a.WithZone(""))
	}
	if err != nil || a.Is6() != bracketed {
		return a, fmt.Errorf("%q: want an IPv4 address, or an IPv6 address in brackets", s)
	}
	if a = a.Unmap(); a.IsMulticast() {
		return a, fmt.Errorf("%s: not an address of a host", a)
	}
	return a, nil
}

// parseSpan reads "N" or "N-M" with 1 <= N <= M <= 65535.
func parseSpan(s string) (first, last uint16, err error) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	x, errA := strconv.ParseUint(a, 10, 16)
	y, errB := strconv.ParseUint(b, 10, 16)
	if errA != nil || errB != nil || x == 0 || y < x {
		return 0, 0, fmt.Errorf("%q: want a number from 1 to 65535, or FIRST-LAST", s)
	}
	return uint16(x), uint16(y), nil
}
