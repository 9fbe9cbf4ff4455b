package flannel

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Backend is how the hosts of a fabric reach each other's subnets: VXLAN, HostGW,
// UDP, WireGuard, Extension or Alloc.
type Backend interface {
	// Type is Flannel's name for it.
	Type() string
	// check says what is wrong with the settings.
	check() error
	// add writes the settings, without what is meant anyway.
	add(o *object)
}

// VXLAN carries frames in UDP, by the kernel (RFC 7348).
type VXLAN struct {
	VNI           int // 1 unless it is written
	Port          int // UDP; 8472, the kernel's, unless it is written
	GBP           bool
	Learning      bool
	DirectRouting bool   // hosts on one link route, without a tunnel
	MacPrefix     string // Windows only
	MTU           int    // of what carries it; 0: as the host's device has it
}

// HostGW routes by the hosts' addresses, which are on one link.
type HostGW struct{}

// UDP carries IPv4 packets in UDP, by the daemon.
type UDP struct {
	Port int // 8285 unless it is written
}

// WireGuard encrypts.
type WireGuard struct {
	PSK                         string // a key in base64, or ""
	ListenPort                  int    // UDP; 51820 unless it is written
	ListenPortV6                int    // UDP; 51821; of Mode separate
	MTU                         int    // of what carries it; 0: as the host's device has it
	Mode                        string // separate, auto, ipv4 or ipv6
	PersistentKeepaliveInterval int    // seconds; 0: none
}

// Extension has commands of the user's do it. ShutdownCommand is in Flannel's examples
// (dist/extension-vxlan), and not run by flanneld.
type Extension struct {
	PreStartupCommand, PostStartupCommand, ShutdownCommand string
	SubnetAddCommand, SubnetRemoveCommand                  string
}

// Alloc gives out subnets; somebody else routes them.
type Alloc struct{}

// Type implements Backend.
func (VXLAN) Type() string { return "vxlan" }

// Type implements Backend.
func (HostGW) Type() string { return "host-gw" }

// Type implements Backend.
func (UDP) Type() string { return "udp" }

// Type implements Backend.
func (WireGuard) Type() string { return "wireguard" }

// Type implements Backend.
func (Extension) Type() string { return "extension" }

// Type implements Backend.
func (Alloc) Type() string { return "alloc" }

// What is meant without being written, as in flanneld.
func usualVXLAN() VXLAN { return VXLAN{VNI: 1, Port: 8472} }
func usualUDP() UDP     { return UDP{Port: 8285} }
func usualWireGuard() WireGuard {
	return WireGuard{ListenPort: 51820, ListenPortV6: 51821, Mode: "separate"}
}

// parseBackend reads the Backend of a config. Without one it is udp: so flanneld
// has it, whose documentation says vxlan.
func parseBackend(text json.RawMessage) (Backend, []Field, error) {
	if len(text) == 0 {
		return usualUDP(), nil, nil
	}
	var t struct{ Type string }
	if err := decode(text, &t); err != nil {
		return nil, nil, fmt.Errorf("Backend: %w", err)
	}
	b, names, err := settings(strings.ToLower(t.Type), text)
	if v, ok := b.(VXLAN); ok && v.Port == 0 {
		v.Port = usualVXLAN().Port
		b = v
	}
	if err == nil {
		err = b.check()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("Backend: %w", err)
	}
	rest, err := others(text, append(names, "Type")...)
	return b, rest, err
}

// settings reads those of a type, and says which fields they are.
func settings(kind string, text []byte) (Backend, []string, error) {
	switch kind {
	case "vxlan":
		return read(text, usualVXLAN(), "VNI", "Port", "GBP", "Learning", "DirectRouting", "MacPrefix", "MTU")
	case "host-gw":
		return HostGW{}, nil, nil
	case "udp":
		return read(text, usualUDP(), "Port")
	case "wireguard":
		return read(text, usualWireGuard(), "PSK", "ListenPort", "ListenPortV6", "MTU", "Mode", "PersistentKeepaliveInterval")
	case "extension":
		return read(text, Extension{}, "PreStartupCommand", "PostStartupCommand", "ShutdownCommand", "SubnetAddCommand", "SubnetRemoveCommand")
	case "alloc":
		return Alloc{}, nil, nil
	case "ipip":
		return nil, nil, errors.New(`Type: "ipip": is Flannel's alone: "vxlan" with DirectRouting does that and IPv6`)
	case "ipsec":
		return nil, nil, errors.New(`Type: "ipsec": is Flannel's alone: "wireguard" encrypts too`)
	case "aws-vpc", "gce", "ali-vpc", "tencent-vpc":
		return nil, nil, fmt.Errorf("Type: %q: no routing tables of clouds here: \"vxlan\" needs none", kind)
	case "":
		return nil, nil, errors.New("Type: missing: " + types)
	}
	return nil, nil, fmt.Errorf("Type: %q: there is none: %s", kind, types)
}

const types = "vxlan, host-gw, wireguard, udp, extension or alloc"

// read reads settings over the usual ones.
func read[B Backend](text []byte, b B, names ...string) (Backend, []string, error) {
	err := decode(text, &b)
	return b, names, err
}

// port says what is wrong with a UDP port.
func port(field string, n, least int) error {
	if n < least || n > 65535 {
		return fmt.Errorf("%s: %d: a UDP port, up to 65535, belongs there", field, n)
	}
	return nil
}

// mtu says what is wrong with one; 0 is the device's. IPv4 passes 68 bytes everywhere (RFC 791).
func mtu(n int) error {
	if n != 0 && (n < 68 || n > 65535) {
		return fmt.Errorf("MTU: %d: bytes, 68 to 65535, belong there", n)
	}
	return nil
}

func (b VXLAN) check() error {
	if b.VNI < 0 || b.VNI >= 1<<24 {
		return fmt.Errorf("VNI: %d: 0 to %d belongs there", b.VNI, 1<<24-1)
	}
	return cmp.Or(port("Port", b.Port, 0), mtu(b.MTU))
}

func (HostGW) check() error    { return nil }
func (b UDP) check() error     { return port("Port", b.Port, 1) }
func (Extension) check() error { return nil }
func (Alloc) check() error     { return nil }

func (b WireGuard) check() error {
	if _, err := base64.StdEncoding.Strict().DecodeString(b.PSK); err != nil || b.PSK != "" && len(b.PSK) != 44 {
		return errors.New("PSK: 32 bytes in base64 belong there, as wg genpsk prints them")
	}
	switch b.Mode {
	case "separate", "auto", "ipv4", "ipv6":
	default:
		return fmt.Errorf("Mode: %q: separate, auto, ipv4 or ipv6 belongs there", b.Mode)
	}
	if b.PersistentKeepaliveInterval < 0 || b.PersistentKeepaliveInterval > 65535 {
		return fmt.Errorf("PersistentKeepaliveInterval: %d: seconds, up to 65535, belong there", b.PersistentKeepaliveInterval)
	}
	return cmp.Or(port("ListenPort", b.ListenPort, 1), port("ListenPortV6", b.ListenPortV6, 1), mtu(b.MTU))
}

// marshalBackend writes a Backend with what else was in it.
func marshalBackend(b Backend, rest []Field) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	var o object
	o.add("Type", b.Type())
	b.add(&o)
	o.addAll(rest)
	return o.bytes()
}

func (b VXLAN) add(o *object) {
	usual := usualVXLAN()
	addUnless(o, "VNI", b.VNI, usual.VNI)
	if b.Port != 0 {
		addUnless(o, "Port", b.Port, usual.Port)
	}
	addUnless(o, "GBP", b.GBP, false)
	addUnless(o, "Learning", b.Learning, false)
	addUnless(o, "DirectRouting", b.DirectRouting, false)
	addUnless(o, "MacPrefix", b.MacPrefix, "")
	addUnless(o, "MTU", b.MTU, 0)
}

func (HostGW) add(*object)  {}
func (Alloc) add(*object)   {}
func (b UDP) add(o *object) { addUnless(o, "Port", b.Port, usualUDP().Port) }

func (b WireGuard) add(o *object) {
	usual := usualWireGuard()
	addUnless(o, "PSK", b.PSK, "")
	addUnless(o, "ListenPort", b.ListenPort, usual.ListenPort)
	addUnless(o, "ListenPortV6", b.ListenPortV6, usual.ListenPortV6)
	addUnless(o, "MTU", b.MTU, 0)
	addUnless(o, "Mode", b.Mode, usual.Mode)
	addUnless(o, "PersistentKeepaliveInterval", b.PersistentKeepaliveInterval, 0)
}

func (b Extension) add(o *object) {
	addUnless(o, "PreStartupCommand", b.PreStartupCommand, "")
	addUnless(o, "PostStartupCommand", b.PostStartupCommand, "")
	addUnless(o, "ShutdownCommand", b.ShutdownCommand, "")
	addUnless(o, "SubnetAddCommand", b.SubnetAddCommand, "")
	addUnless(o, "SubnetRemoveCommand", b.SubnetRemoveCommand, "")
}
