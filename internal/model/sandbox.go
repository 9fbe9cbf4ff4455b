package model

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode says whose network namespace a sandbox lives in.
type Mode string

// The modes.
const (
	ModeOwn    Mode = "own"    // a namespace we made for it
	ModeHost   Mode = "host"   // the host's
	ModeShared Mode = "shared" // another sandbox's (container:REF)
	ModeOther  Mode = "other"  // one that somebody else made (netns:PATH, pid:N)
	// ModeRuntime is a namespace that a container engine makes, perhaps only
	// later, and furnishes: it takes the far ends of our devices there itself,
	// and gives them names, addresses and routes.
	ModeRuntime Mode = "runtime"
)

// The origins of sandboxes.
const (
	OriginCNI    = "cni"
	OriginDocker = "docker"
)

// Sandbox is a network namespace that endpoints live in, and the command that
// runs there if we started one.
type Sandbox struct {
	ID    ID     `json:"id"`
	Name  string `json:"name"`
	Mode  Mode   `json:"mode"`
	NetNS string `json:"netns"`           // path; empty for the host's, and for a guest that does not run
	Inode uint64 `json:"inode,omitempty"` // ModeOther: which namespace the path meant; ModeRuntime: means, once it was seen
	Donor ID     `json:"donor,omitempty"` // ModeShared: whose namespace
	Guest *Guest `json:"guest,omitempty"` // ModeOther: whose namespace it is, while it runs
	// Origin is the protocol it was asked for by; empty for our own API.
	Origin string `json:"origin,omitempty"`
	// Container is what the engine calls the container of ModeRuntime; empty until it
	// has been asked.
	Container string `json:"container,omitempty"`
	// Resolver: a runtime wants the daemon's resolver in the namespace, which is
	// not ours.
	Resolver bool `json:"resolver,omitempty"`

	// ModeOther: the namespace had a default route of somebody else's when it
	// was found, and keeps it.
	Routed4 bool `json:"routed4,omitempty"`
	Routed6 bool `json:"routed6,omitempty"`

	Hostname string            `json:"hostname,omitempty"`
	Domain   string            `json:"domain,omitempty"`
	DNS      DNS               `json:"dns,omitzero"`
	Hosts    []HostEntry       `json:"hosts,omitempty"` // --add-host
	Links    []Link            `json:"links,omitempty"`
	Sysctls  map[string]string `json:"sysctls,omitempty"`
	Expose   []PortMapping     `json:"expose,omitempty"` // what -P would publish

	Endpoints []Endpoint    `json:"endpoints"`
	Ports     []PortMapping `json:"ports"` // published, all allocated

	// Chores are run in each namespace that a guest gets, in order.
	Chores []Chore `json:"chores,omitempty"`

	Command    []string  `json:"command,omitempty"`
	AutoRemove bool      `json:"autoRemove,omitempty"` // goes when its command ends
	Process    *Process  `json:"process,omitempty"`    // the command while it runs
	Exit       *Exit     `json:"exit,omitempty"`       // how it ended
	Created    time.Time `json:"created"`
	// Moved is when a guest came to the namespace that it is in, or left the last one.
	Moved time.Time `json:"moved,omitzero"`
}

// Routed reports whether the default route of a family is somebody else's.
func (sb *Sandbox) Routed(is6 bool) bool { return is6 && sb.Routed6 || !is6 && sb.Routed4 }

// Endpoint is one interface of a sandbox on one network.
type Endpoint struct {
	ID      ID             `json:"id"`
	Network ID             `json:"network"`
	IfName  string         `json:"ifname"`
	MAC     string         `json:"mac"`
	Addrs   []netip.Prefix `json:"addrs"` // with the subnet's length: 10.0.0.2/24
	Aliases []string       `json:"aliases,omitempty"`
	// Outside are addresses that are of no subnet of the network's, each with its
	// own length, as the user or a DHCP server gave them.
	Outside []netip.Prefix `json:"outside,omitempty"`
	// Services are those of an overlay network that it is a backend of, once they are there.
	Services []Membership `json:"services,omitempty"`
	// Routers are the endpoint's own way out, at most one of each family, instead
	// of the network's. One that no address of it leads to is on the link.
	Routers []netip.Addr `json:"routers,omitempty"`
	Routes  []Route      `json:"routes,omitempty"` // more ways by this interface
	MTU     int          `json:"mtu,omitempty"`    // bytes; 0 is the network's
	VLAN    int          `json:"vlan,omitempty"`   // that its frames are of, without a tag inside; see [Network.VLANOf]
	Trunks  Trunks       `json:"trunks,omitempty"` // that it has with their tags
	// DHCP4 and DHCP6, if not nil, say that a DHCP server gives the endpoint its
	// address of that family, which is one of Outside, and what goes with it.
	DHCP4 *DHCP  `json:"dhcp4,omitempty"`
	DHCP6 *DHCP  `json:"dhcp6,omitempty"`
	Alias string `json:"alias,omitempty"` // another name of the host's end, for people
	Plug  *Plug  `json:"plug,omitempty"`  // the pipework command that asked for it
	// LinkLocal are more addresses of the interface, each with its prefix.
	LinkLocal []netip.Prefix `json:"linkLocal,omitempty"`
	// Sysctls are settings of the interface, "net.ipv4.conf.IFNAME.key=value",
	// written when it is made.
	Sysctls  []string `json:"sysctls,omitempty"`
	Limits   Limits   `json:"limits,omitzero"`
	Priority int      `json:"gwPriority,omitempty"` // the highest gives the default route
	Shard    int      `json:"shard,omitempty"`      // which bridge of the network it is on, see Network.Bridge
	// Container is what a container runtime calls the container that it asked
	// this endpoint for (CNI_CONTAINERID); empty for everybody else's.
	Container string `json:"container,omitempty"`
	// Since, if not zero, is when a runtime asked for it: what comes after in its
	// chain of plugins may give it another hardware address, once and soon.
	Since  time.Time `json:"since,omitzero"`
	Handed bool      `json:"handed,omitempty"` // in a sandbox of ModeRuntime: its far end is the container engine's
	// Taken, of a handed endpoint on a parent: the container engine has been told
	// of its device, which is made once.
	Taken bool `json:"taken,omitempty"`
}

// Route is a way to a destination by an interface.
type Route struct {
	Dst netip.Prefix `json:"dst"`
	Via netip.Addr   `json:"via,omitzero"` // zero: on the link
}

// DNS is what goes into a sandbox's resolv.conf instead of the host's.
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	Options []string     `json:"options,omitempty"`
}

// HostEntry is one extra line of /etc/hosts.
type HostEntry struct {
	Name    string     `json:"name"`
	Addr    netip.Addr `json:"addr"`
	Gateway bool       `json:"gateway,omitempty"` // the host, as the sandbox reaches it, instead of Addr
}

// Link is another sandbox under a name of this one's own, as Docker's --link.
// It may not be there yet. On the default network, whose containers have no
// names for each other, it is a line of /etc/hosts, and opens the other's
// exposed ports where icc=false; elsewhere a private name.
type Link struct {
	Target string `json:"target"` // name or ID
	Alias  string `json:"alias"`
	// Endpoint, if not empty, is the one that the link came with and goes with.
	Endpoint ID `json:"endpoint,omitempty"`
}

// Means reports whether the link is to sb.
func (l Link) Means(sb *Sandbox) bool { return l.Target == sb.Name || l.Target == string(sb.ID) }

// Process is a running command. Start is field 22 of /proc/PID/stat, so that a
// reused PID is noticed.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Exit is how a command ended.
type Exit struct {
	Code   int       `json:"code"`             // 128+signal when killed by one
	Signal string    `json:"signal,omitempty"` // "killed"
	Lost   bool      `json:"lost,omitempty"`   // nobody saw it end, as after a reboot
	At     time.Time `json:"at"`
}

// Ref names the sandbox in errors.
func (s *Sandbox) Ref() string { return "sandbox " + s.Name }

// Validate reports the first thing that makes s impossible on any host. Its
// endpoints are checked as they are made.
func (s *Sandbox) Validate() error {
	bad := func(format string, args ...any) error { return Errorf(Invalid, s.Ref(), "create", format, args...) }
	if err := CheckName(s.Name); err != nil {
		return bad("%w", err)
	}
	for _, check := range []func() error{s.checkNames, s.CheckLinks, s.DNS.validate} {
		if err := check(); err != nil {
			return bad("%w", err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Sysctls)) {
		if err := checkSysctl(k, s.Sysctls[k]); err != nil {
			return bad("%w", err)
		}
	}
	for _, m := range s.Expose {
		if m.HostPort != 0 || m.HostIP.IsValid() || m.From != "" {
			return bad("expose %s: want PORT[-END][/tcp|udp|sctp]", m)
		}
	}
	return nil
}

// checkNames looks at what is written into /etc/hosts and /etc/hostname.
func (s *Sandbox) checkNames() error {
	for _, n := range [][2]string{{"hostname", s.Hostname}, {"domainname", s.Domain}} {
		if err := CheckHostname(n[1]); n[1] != "" && err != nil {
			return fmt.Errorf("%s: %w", n[0], err)
		}
	}
	for _, h := range s.Hosts {
		if err := CheckHostname(h.Name); err != nil {
			return fmt.Errorf("add-host: %w", err)
		}
		if h.Addr.IsValid() == h.Gateway {
			return fmt.Errorf("add-host %s: want an address, or host-gateway", h.Name)
		}
	}
	return nil
}

// CheckLinks reports the first link that cannot be, or whose alias means
// another sandbox too.
func (s *Sandbox) CheckLinks() error {
	target := map[string]string{}
	for _, l := range s.Links {
		if err := l.validate(); err != nil {
			return err
		}
		if old, twice := target[strings.ToLower(l.Alias)]; twice && old != l.Target {
			return fmt.Errorf("link %s: alias %s is that of %s", l.Target, l.Alias, old)
		}
		target[strings.ToLower(l.Alias)] = l.Target
	}
	return nil
}

// resolvRE is an option of resolv.conf(5), compiled when it is needed as hostRE is.
var resolvRE = lazily(`^[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9._-]{1,64})?$`)

// validate looks at what is written into resolv.conf.
func (d DNS) validate() error {
	for _, n := range d.Search {
		if err := CheckHostname(strings.TrimSuffix(n, ".")); err != nil && n != "." {
			return fmt.Errorf("dns-search: %w", err)
		}
	}
	for _, a := range d.Servers {
		if a.IsUnspecified() || a.IsMulticast() || a == broadcast {
			return fmt.Errorf("dns %s: want the address of one server", a)
		}
		if a.Is6() && a.IsLinkLocalUnicast() {
			return fmt.Errorf("dns %s: is of no one device, and leads nowhere: want another address of the server", a)
		}
	}
	for _, o := range d.Options {
		if !resolvRE().MatchString(o) {
			return fmt.Errorf("dns-option %q: want one word, as ndots:2", o)
		}
		switch k, v, _ := strings.Cut(o, ":"); k {
		case "ndots", "timeout", "attempts":
			if _, err := strconv.ParseUint(v, 10, 8); err != nil {
				return fmt.Errorf("dns-option %q: want a number from 0 to 255, as %s:2", o, k)
			}
		}
	}
	return nil
}

// PortPrefix begins the name of the host's end of every endpoint's veth that nobody
// chose a name for.
const PortPrefix = "slv"

// Device returns the name of the host's end of an endpoint's veth.
func (e *Endpoint) Device() string { return cmp.Or(e.Alias, PortPrefix+string(e.ID)) }

// FarDevice returns the name that the far end of a handed endpoint's veth, or its
// macvlan or ipvlan, has in the host until the container engine takes it.
func (e *Endpoint) FarDevice() string { return "slp" + string(e.ID) }

// Side returns the name of the host's device that what comes from a limited
// endpoint goes through.
func (e *Endpoint) Side() string { return "sli" + string(e.ID) }

// Addr returns the endpoint's address of a family, or false.
func (e *Endpoint) Addr(is6 bool) (netip.Prefix, bool) {
	for _, p := range e.Addrs {
		if p.Addr().Is6() == is6 {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// Has reports whether the endpoint has an address of a family, from wherever.
func (e *Endpoint) Has(is6 bool) bool {
	_, pooled := e.Addr(is6)
	return pooled || slices.ContainsFunc(e.Outside, func(p netip.Prefix) bool { return p.Addr().Is6() == is6 })
}

// DerivedMAC is the hardware address of an endpoint whose user chose none: made of
// its first address, or of its ID when it has none.
func (e *Endpoint) DerivedMAC() string {
	for _, list := range [][]netip.Prefix{e.Addrs, e.Outside} {
		if len(list) > 0 {
			return MACFor(list[0].Addr())
		}
	}
	return MACForID(MACEndpoint, e.ID)
}

// Router returns the endpoint's own way out of a family, or the zero address.
func (e *Endpoint) Router(is6 bool) netip.Addr {
	for _, a := range e.Routers {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// Unnumbered reports whether the endpoint leads to a router of a family without an
// address of its own: what is sent there is from another interface's.
func (e *Endpoint) Unnumbered(is6 bool) bool {
	return e.Router(is6).IsValid() && !e.Has(is6) && e.DHCP(is6) == nil
}

// Reaches reports whether an address of the endpoint's leads to a without a router.
func (e *Endpoint) Reaches(a netip.Addr) bool {
	leads := func(p netip.Prefix) bool { return p.Contains(a) }
	return a.Is6() && a.IsLinkLocalUnicast() || slices.ContainsFunc(e.Addrs, leads) || slices.ContainsFunc(e.Outside, leads)
}

// On lists the sandbox's endpoints on a network. There is at most one, but of
// those that container runtimes ask for.
func (s *Sandbox) On(network ID) iter.Seq[*Endpoint] {
	return func(yield func(*Endpoint) bool) {
		for i := range s.Endpoints {
			if s.Endpoints[i].Network == network && !yield(&s.Endpoints[i]) {
				return
			}
		}
	}
}

// Endpoint returns the sandbox's first endpoint on a network, or nil.
func (s *Sandbox) Endpoint(network ID) *Endpoint {
	for ep := range s.On(network) {
		return ep
	}
	return nil
}

// Clone returns a deep copy, so that the stored one is never changed.
func (s *Sandbox) Clone() *Sandbox {
	c := *s
	c.Endpoints = append([]Endpoint(nil), s.Endpoints...)
	c.Ports = append([]PortMapping(nil), s.Ports...)
	if s.Guest != nil {
		g := *s.Guest
		c.Guest = &g
	}
	if s.Process != nil {
		p := *s.Process
		c.Process = &p
	}
	if s.Exit != nil {
		e := *s.Exit
		c.Exit = &e
	}
	return &c
}
