package model

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Options are a network's driver options, typed. They are set by name with
// ParseOptions; nothing else carries options by name.
type Options struct {
	Device   string `json:"name,omitempty"`     // the bridge; one that exists is adopted and left alone afterwards, and of a fabric see ByOthers
	MTU      int    `json:"mtu,omitempty"`      // bytes; 0 until resolved at creation
	IfPrefix string `json:"ifPrefix,omitempty"` // of interface names in containers; "" is eth
	NoICC    bool   `json:"noICC,omitempty"`    // containers of the network may not talk to each other
	NoMasq   bool   `json:"noMasq,omitempty"`   // packets leave with the container's own address

	Mode4       GatewayMode `json:"gatewayMode4,omitempty"` // how IPv4 leaves and enters
	Mode6       GatewayMode `json:"gatewayMode6,omitempty"`
	Inhibit4    bool        `json:"inhibitIPv4,omitempty"` // the IPv4 gateway is not put on the bridge: another machine is it
	Source4     netip.Addr  `json:"source4,omitzero"`      // what packets leave with instead of the way out's address
	Source6     netip.Addr  `json:"source6,omitzero"`
	HostBinding netip.Addr  `json:"hostBinding,omitzero"` // where ports are published that name no host address
	Trusted     string      `json:"trusted,omitempty"`    // host devices "a:b" whose hosts may use published ports at the container's address

	NoAntispoof  bool `json:"noAntispoof,omitempty"`  // containers may send from addresses that are not theirs
	NoHostAccess bool `json:"noHostAccess,omitempty"` // containers may not use the host's own services

	Announce         int `json:"announce,omitempty"`         // ARP and ND announcements of a new address; 0 is 3, negative none
	AnnounceInterval int `json:"announceInterval,omitempty"` // milliseconds between them; 0 is 1000

	// NoIPAM: the network has no subnets. Endpoints have the addresses that their
	// users or a DHCP server give them, or none.
	NoIPAM bool `json:"noIPAM,omitempty"`

	NoDAD bool `json:"noDAD,omitempty"` // the wire is not asked who has an address before it is used

	Parent   string     `json:"parent,omitempty"`     // the host's device that endpoints are on
	VLAN     int        `json:"vlan,omitempty"`       // of the parent's; 0 is what has no tag
	LinkMode LinkMode   `json:"mode,omitempty"`       // "" is the driver's first
	LinkFlag LinkMode   `json:"ipvlanFlag,omitempty"` // of ipvlan: private or vepa; "" is bridge
	Leg4     netip.Addr `json:"leg4,omitzero"`        // the host's own on the parent, by which it and the endpoints meet
	Leg6     netip.Addr `json:"leg6,omitzero"`

	Trunks   Trunks `json:"trunks,omitempty"`   // VLANs that endpoints have with their tags
	Datapath string `json:"datapath,omitempty"` // of an Open vSwitch bridge; "" until resolved at creation

	Backend   Backend `json:"backend,omitzero"`    // of a fabric, as it was asked for; see Fabric
	SubnetLen int     `json:"subnetLen,omitempty"` // of a fabric: of the prefix of each host's subnet; 0 is Flannel's choice

	Encrypted bool `json:"encrypted,omitempty"` // of an overlay: its packets between hosts are

	Adopted bool `json:"adopted,omitempty"` // set at creation: the device was there before us
}

// GatewayMode says how one address family of a network leaves the host and is
// reached from outside, as Docker's gateway modes do. "" is GatewayNAT.
type GatewayMode string

// The gateway modes.
const (
	GatewayNAT      GatewayMode = "nat"             // leaves with the host's address; entered by published ports at the host's addresses
	GatewayRouted   GatewayMode = "routed"          // no address is rewritten; entered at the container's address, published ports only
	GatewayOpen     GatewayMode = "nat-unprotected" // as nat, and every port can be entered at the container's address
	GatewayIsolated GatewayMode = "isolated"        // of an internal network: the bridge has no address, the host is no part of it
)

// NAT reports whether the mode rewrites addresses.
func (m GatewayMode) NAT() bool { return m == "" || m == GatewayNAT || m == GatewayOpen }

func parseMode(v string) (GatewayMode, error) {
	switch m := GatewayMode(v); m {
	case GatewayNAT:
		return "", nil
	case GatewayRouted, GatewayOpen, GatewayIsolated:
		return m, nil
	}
	return "", fmt.Errorf("%q: want nat, routed, nat-unprotected or isolated", v)
}

// option is one -o key.
type option struct {
	name    string   // ours
	drivers []string // that know it
	aliases []string // Docker's names
	set     func(*Options, string) error
}

// Docker's names begin with one of these.
const (
	dockerNetwork = "com.docker.network."
	dockerBridge  = dockerNetwork + "bridge."
)

var optionTable = []option{
	{"advertise-count", []string{DriverBridge, DriverFabric, DriverOverlay, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, []string{dockerNetwork + "advertise_addr_nmsgs"},
		func(o *Options, v string) (err error) {
			if o.Announce, err = number(v, 0, 3, ""); o.Announce == 0 {
				o.Announce = -1
			}
			return err
		}},
	{"advertise-interval", []string{DriverBridge, DriverFabric, DriverOverlay, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, []string{dockerNetwork + "advertise_addr_ms"},
		func(o *Options, v string) (err error) { o.AnnounceInterval, err = number(v, 100, 2000, " ms"); return }},
	{"antispoof", []string{"bridge", DriverFabric, DriverOverlay}, nil,
		func(o *Options, v string) (err error) { o.NoAntispoof, err = not(v); return }},
	{"backend", []string{DriverFabric}, nil,
		func(o *Options, v string) (err error) { o.Backend.Type, err = parseBackend(v); return }},
	{"dad", []string{DriverBridge, DriverFabric, DriverOverlay, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, nil,
		func(o *Options, v string) (err error) { o.NoDAD, err = not(v); return }},
	{"datapath", []string{DriverOVS}, nil, parseDatapath},
	{"direct-routing", []string{DriverFabric}, nil,
		func(o *Options, v string) (err error) {
			o.Backend.DirectRouting, err = not(v)
			o.Backend.DirectRouting = !o.Backend.DirectRouting
			return
		}},
	{"encrypted", []string{DriverOverlay}, nil, parseEncrypted},
	{"gateway-mode", []string{"bridge"}, nil,
		func(o *Options, v string) (err error) { o.Mode4, err = parseMode(v); o.Mode6 = o.Mode4; return }},
	{"gateway-mode-ipv4", []string{"bridge"}, []string{dockerBridge + "gateway_mode_ipv4"},
		func(o *Options, v string) (err error) { o.Mode4, err = parseMode(v); return }},
	{"gateway-mode-ipv6", []string{"bridge"}, []string{dockerBridge + "gateway_mode_ipv6"},
		func(o *Options, v string) (err error) { o.Mode6, err = parseMode(v); return }},
	{"host-access", []string{"bridge", DriverFabric, DriverOverlay}, nil,
		func(o *Options, v string) (err error) { o.NoHostAccess, err = not(v); return }},
	{"host-leg", []string{DriverMacvlan, DriverIPvlan}, nil, parseLegs},
	{"host-binding", []string{"bridge"}, []string{dockerBridge + "host_binding_ipv4"},
		func(o *Options, v string) (err error) { o.HostBinding, err = parseHostIP(v); return }},
	{"icc", []string{"bridge", DriverFabric, DriverOverlay}, []string{dockerBridge + "enable_icc"},
		func(o *Options, v string) (err error) { o.NoICC, err = not(v); return }},
	{"ifname-prefix", []string{"bridge", DriverFabric, DriverOverlay, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, []string{dockerNetwork + "container_iface_prefix"},
		func(o *Options, v string) error { o.IfPrefix = v; return CheckIfPrefix(v) }},
	{"ipvlan-flag", []string{DriverIPvlan}, []string{"ipvlan_flag"}, parseLinkFlag},
	{"inhibit-ipv4", []string{"bridge"}, []string{dockerBridge + "inhibit_ipv4"},
		func(o *Options, v string) (err error) { o.Inhibit4, err = not(v); o.Inhibit4 = !o.Inhibit4; return }},
	{"ipam", []string{DriverBridge, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, nil, parseIPAM},
	{"masquerade", []string{"bridge", DriverFabric, DriverOverlay}, []string{dockerBridge + "enable_ip_masquerade"},
		func(o *Options, v string) (err error) { o.NoMasq, err = not(v); return }},
	{"keepalive", []string{DriverFabric}, nil,
		func(o *Options, v string) (err error) { o.Backend.Keepalive, err = number(v, 0, 65535, " s"); return }},
	{"key-lifetime", []string{DriverFabric}, nil, parseKeyLife},
	{"mode", []string{DriverFabric}, nil, parseWireGuardMode},
	{"mode", []string{DriverIPvlan}, []string{"ipvlan_mode"}, parseLinkMode(ModeL2, ModeL3, ModeL3S)},
	{"mode", []string{DriverMacvlan}, []string{"macvlan_mode"}, parseLinkMode(ModeBridge, ModeVEPA, ModePrivate, ModePassthru)},
	{"mtu", []string{"bridge", DriverOverlay, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, []string{dockerNetwork + "driver.mtu"},
		func(o *Options, v string) (err error) { o.MTU, err = number(v, 68, 65535, " bytes"); return }},
	{"name", []string{"bridge", DriverOVS}, []string{dockerBridge + "name"},
		func(o *Options, v string) error { o.Device = v; return CheckIfName(v) }},
	{"parent", []string{DriverBridge, DriverMacvlan, DriverIPvlan, DriverPhys}, nil,
		func(o *Options, v string) error { o.Parent = v; return CheckIfName(v) }},
	{"port", []string{DriverFabric, DriverOverlay}, nil,
		func(o *Options, v string) (err error) { o.Backend.Port, err = number(v, 1, 65535, ""); return }},
	{"source-ip", []string{"bridge"}, []string{dockerNetwork + "host_ipv4", dockerNetwork + "host_ipv6"},
		func(o *Options, v string) error {
			for text := range strings.SplitSeq(v, ",") {
				if err := o.setSource(text); err != nil {
					return err
				}
			}
			return nil
		}},
	{"subnet-len", []string{DriverFabric}, nil,
		func(o *Options, v string) (err error) { o.SubnetLen, err = number(v, 1, 126, " bits"); return }},
	{"trunks", []string{DriverBridge, DriverOVS}, nil,
		func(o *Options, v string) (err error) { o.Trunks, err = ParseTrunks(v); return }},
	{"trusted-interfaces", []string{"bridge"}, []string{dockerBridge + "trusted_host_interfaces"},
		func(o *Options, v string) error {
			o.Trusted = v
			for _, name := range o.TrustedDevices() {
				if err := CheckIfName(name); err != nil {
					return err
				}
			}
			return nil
		}},
	{"vlan", []string{DriverBridge, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys}, nil,
		func(o *Options, v string) (err error) { o.VLAN, err = number(v, 1, maxVLAN, ""); return }},
	{"vni", []string{DriverFabric, DriverOverlay}, []string{dockerNetwork + "driver.overlay.vxlanid_list"},
		func(o *Options, v string) (err error) { o.Backend.VNI, err = number(v, 1, 1<<24-1, ""); return }},
}

// not reads a boolean as Docker does, and on and off, and negates it.
func not(v string) (bool, error) {
	switch v {
	case "on":
		return false, nil
	case "off":
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%q: want true or false", v)
	}
	return !b, nil
}

// number reads a number, which has no sign.
func number(v string, low, high int, unit string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || int(n) < low || int(n) > high {
		return 0, fmt.Errorf("%q: want %d to %d%s", v, low, high, unit)
	}
	return int(n), nil
}

// broadcast is every host of the link (RFC 919).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func parseHostIP(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsMulticast() || a == broadcast {
		return netip.Addr{}, fmt.Errorf("%q: want an address of the host", v)
	}
	if a == netip.IPv4Unspecified() {
		return netip.Addr{}, nil
	}
	return a, nil
}

// ParseOptions reads -o KEY=VALUE pairs for a driver. An unknown key is an
// error that lists the known ones; nothing is ignored.
func ParseOptions(driver string, kv map[string]string) (Options, error) {
	var o Options
	given := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		op := findOption(driver, k)
		if op == nil {
			return Options{}, fmt.Errorf("option %q: not known to driver %s, which knows %s", k, driver, strings.Join(optionNames(driver), ", "))
		}
		if first, twice := given[op.name]; twice && op.name != "source-ip" {
			return Options{}, fmt.Errorf("option %s: given twice, as %s and %s", op.name, first, k)
		}
		given[op.name] = k
		if err := op.set(&o, kv[k]); err != nil {
			return Options{}, fmt.Errorf("option %s: %w", k, err)
		}
	}
	return o, nil
}

// With returns the options of a driver's network with another value of one.
func (o Options) With(driver, key, value string) (Options, error) {
	op := findOption(driver, key)
	if op == nil {
		return o, fmt.Errorf("option %q: not known to driver %s", key, driver)
	}
	return o, op.set(&o, value)
}

// OptionName returns our short name of an option that may be under one of
// Docker's, or "" for one that the driver does not know.
func OptionName(driver, key string) string {
	if op := findOption(driver, key); op != nil {
		return op.name
	}
	return ""
}

// DropOption removes what sets the option name from kv, options by their short names:
// gateway-mode sets two.
func DropOption(kv map[string]string, name string) {
	delete(kv, name)
	if name == "gateway-mode" {
		delete(kv, "gateway-mode-ipv4")
		delete(kv, "gateway-mode-ipv6")
	}
}

func findOption(driver, key string) *option {
	i := slices.IndexFunc(optionTable, func(op option) bool {
		return slices.Contains(op.drivers, driver) && (op.name == key || slices.Contains(op.aliases, key))
	})
	if i < 0 {
		return nil
	}
	return &optionTable[i]
}

func optionNames(driver string) []string {
	var names []string
	for _, op := range optionTable {
		if slices.Contains(op.drivers, driver) {
			names = append(names, op.name)
		}
	}
	return names
}

// setSource takes the address of one family.
func (o *Options) setSource(text string) error {
	a, err := parseHostIP(text)
	if err != nil || !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		return fmt.Errorf("%q: want an address of the host that others can answer to", text)
	}
	to := &o.Source4
	if a.Is6() {
		to = &o.Source6
	}
	if to.IsValid() {
		return fmt.Errorf("%s: is the second of its family, after %s", a, to)
	}
	*to = a
	return nil
}

// Source returns the address of a family that packets leave with, or false.
func (o Options) Source(is6 bool) (netip.Addr, bool) {
	if is6 {
		return o.Source6, o.Source6.IsValid()
	}
	return o.Source4, o.Source4.IsValid()
}

// TrustedDevices lists the trusted devices of the host.
func (o Options) TrustedDevices() []string {
	if o.Trusted == "" {
		return nil
	}
	return strings.Split(o.Trusted, ":")
}

// Validate reports the first option that is impossible, or that another one
// contradicts.
func (o Options) Validate() error {
	if o.Device != "" {
		if err := CheckIfName(o.Device); err != nil {
			return err
		}
	}
	for _, is6 := range []bool{false, true} {
		if a, ok := o.Source(is6); ok && o.NoMasq {
			return fmt.Errorf("option source-ip: %s: masquerade is off, so packets leave with the container's own address", a)
		}
	}
	return nil
}

// Map returns the options by their short names, for people and JSON.
func (o Options) Map() map[string]string {
	m := map[string]string{"icc": strconv.FormatBool(!o.NoICC), "masquerade": strconv.FormatBool(!o.NoMasq),
		"antispoof": strconv.FormatBool(!o.NoAntispoof), "host-access": strconv.FormatBool(!o.NoHostAccess)}
	put := func(name string, is bool, value string) {
		if is {
			m[name] = value
		}
	}
	put("mtu", o.MTU != 0, strconv.Itoa(o.MTU))
	put("name", o.Device != "", o.Device)
	put("ifname-prefix", o.IfPrefix != "", o.IfPrefix)
	put("gateway-mode-ipv4", o.Mode4 != "", string(o.Mode4))
	put("gateway-mode-ipv6", o.Mode6 != "", string(o.Mode6))
	put("inhibit-ipv4", o.Inhibit4, "true")
	put("host-binding", o.HostBinding.IsValid(), o.HostBinding.String())
	put("trusted-interfaces", o.Trusted != "", o.Trusted)
	put("advertise-count", o.Announce != 0, strconv.Itoa(max(o.Announce, 0)))
	put("advertise-interval", o.AnnounceInterval != 0, strconv.Itoa(o.AnnounceInterval))
	sources := o.Source4.String() + "," + o.Source6.String()
	switch {
	case !o.Source6.IsValid():
		sources = o.Source4.String()
	case !o.Source4.IsValid():
		sources = o.Source6.String()
	}
	put("ipam", o.NoIPAM, "none")
	put("dad", o.NoDAD, "off")
	put("encrypted", o.Encrypted, "true")
	put("parent", o.Parent != "", o.Parent)
	put("vlan", o.VLAN != 0, strconv.Itoa(o.VLAN))
	put("trunks", o.Trunks != "", string(o.Trunks))
	put("datapath", o.Datapath != "", o.Datapath)
	put("mode", o.LinkMode != "", string(o.LinkMode))
	put("ipvlan-flag", o.LinkFlag != "", string(o.LinkFlag))
	put("host-leg", o.Leg4.IsValid() || o.Leg6.IsValid(), o.legs())
	put("source-ip", o.Source4.IsValid() || o.Source6.IsValid(), sources)
	return m
}
