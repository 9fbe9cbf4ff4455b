// Package driver says what a network driver is: a pure compiler from intent to
// kernel state. A driver touches no kernel, no clock and no randomness; what
// depends on the host comes in through Facts, by name.
//
// A driver makes devices and addresses. Firewall, published ports and default
// routes are the same for all drivers and belong to package compile.
package driver

import (
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver is one kind of network. The keys of what Network returns for two
// networks, and Endpoint for two endpoints, must never meet.
type Driver interface {
	// Network returns what a network needs on the host, without endpoints.
	Network(*model.Network, Facts) (kstate.Set, error)
	// Endpoint returns what one endpoint needs on the host and in the
	// namespace ns of its sandbox.
	Endpoint(*model.Network, *model.Endpoint, kstate.NS, Facts) (kstate.Set, error)
}

// Setting returns the sysctl of one device: Setting("ipv6", "eth0.1",
// "accept_ra") is "net.ipv6.conf.eth0/1.accept_ra", for the dots of a name are
// not the dots of the path (sysctl(8)).
func Setting(family, dev, name string) string {
	return "net." + family + ".conf." + strings.ReplaceAll(dev, ".", "/") + "." + name
}

// NeighSetting is Setting of what a device does about IPv4 neighbours.
func NeighSetting(dev, name string) string {
	return strings.Replace(Setting("ipv4", dev, name), ".conf.", ".neigh.", 1)
}

// Pick is a chain of the firewall's that chooses one of N backends.
type Pick struct {
	Balance model.Balance
	N       int
}

// Facts are what drivers and compile may know about the host.
type Facts struct {
	// RunDir is where files of sandboxes live, usually /run/sealane.
	RunDir string
	// BridgeNetfilter: bridged packets pass the IP firewall hooks
	// (net.bridge.bridge-nf-call-iptables or -ip6tables is on). A container
	// that calls itself by a published port then needs its bridge port to
	// send frames back where they came from.
	BridgeNetfilter bool
	// Filters are the chains of others' firewalls that judge what passes the
	// host or comes to it.
	Filters []kstate.Filter
	Marked  bool // there has been such a filter since the daemon started
	// Bridges are those of others that have machines of theirs behind them and
	// no way out: Docker's, libvirt's. Whether containers of ours may reach
	// those is for their firewall to say.
	Bridges []string
	// Narrow are parents of networks whose MTU is less than the network's by now, each
	// with its MTU, which no device on it may exceed.
	Narrow map[string]int
	// Spanned: a network has had parts on other hosts since the daemon started. What
	// the firewall has for that stays: to take it out means to replace the table.
	Spanned bool
	// Sharded: the same of networks with more than one bridge here.
	Sharded bool
	// Apart: the same of networks whose endpoints are kept apart (icc=false).
	Apart bool
	// Overlaid: the same of networks that are one link over several hosts.
	Overlaid bool
	// Sealed: the same of those that are encrypted.
	Sealed bool
	// Serving: an overlay network has had services; Picks: how many backends they had.
	Serving bool
	Picks   []Pick
	// SocketsChoose: sockets of containers can choose among the backends of a service.
	SocketsChoose bool
	// Kept: there have been backends for which they do not, by TCP.
	Kept bool
	// Meshed: one has had published ports.
	Meshed bool
	// Narrowed: one has had a path that is narrower than the uplink.
	Narrowed bool
	// Accepted is borne by what may enter every network that is not internal.
	Accepted Mark
	// ProxyPort is where the daemon's proxy listens; 0 without one.
	ProxyPort uint16
	// AcceptRA are the host's devices that take IPv6 router advertisements
	// with accept_ra=1, which forwarding would turn off.
	AcceptRA []string
	// Neighbours are settings of the kernel's table of neighbours that leave too little room
	// for an overlay network, with the values that they are to have.
	Neighbours map[string]string
	// Uplinked are bridges that have the addresses of a NIC of the host, and its
	// hardware address.
	Uplinked []string
	// Resolv is the host's resolver configuration, without loopback servers.
	Resolv model.DNS
}
