package flannel

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// VXLANData is a host's end of a vxlan: BackendData of IPv4, BackendV6Data of IPv6.
type VXLANData struct {
	VNI     int              // of the fabric's config, which counts
	VtepMAC net.HardwareAddr // of the host's device: six bytes, one host's
}

// Marshal writes it as flanneld does: the low 16 bits of the VNI, which is all
// that flanneld reads. It refuses a lease with a larger number.
func (d VXLANData) Marshal() (json.RawMessage, error) {
	if err := checkMAC(d.VtepMAC); err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		VNI     uint16
		VtepMAC string
	}{uint16(d.VNI), d.VtepMAC.String()})
}

// ParseVXLAN reads a VXLANData.
func ParseVXLAN(text json.RawMessage) (VXLANData, error) {
	if len(text) == 0 {
		return VXLANData{}, errors.New("missing: the host's VtepMAC belongs there")
	}
	var t struct {
		VNI     int
		VtepMAC string
	}
	if err := decode(text, &t); err != nil {
		return VXLANData{}, err
	}
	mac, err := net.ParseMAC(t.VtepMAC)
	if err != nil {
		return VXLANData{}, fmt.Errorf("VtepMAC: %q: a MAC address belongs there", t.VtepMAC)
	}
	return VXLANData{t.VNI, mac}, checkMAC(mac)
}

// checkMAC says why no device has the address.
func checkMAC(mac net.HardwareAddr) error {
	switch {
	case len(mac) != 6:
		return fmt.Errorf("VtepMAC: %q: six bytes belong there", mac)
	case mac[0]&1 != 0:
		return fmt.Errorf("VtepMAC: %s: is a group's address", mac)
	case [6]byte(mac) == [6]byte{}:
		return fmt.Errorf("VtepMAC: %s: is nobody's address", mac)
	}
	return nil
}

// WireGuardData is a host's end of a wireguard: BackendData and BackendV6Data.
type WireGuardData struct {
	PublicKey string // in base64
	Port      int    // UDP; 0: the config's, for older flannelds say none
}

// Marshal writes it as flanneld does.
func (d WireGuardData) Marshal() (json.RawMessage, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

// ParseWireGuard reads a WireGuardData.
func ParseWireGuard(text json.RawMessage) (WireGuardData, error) {
	if len(text) == 0 {
		return WireGuardData{}, errors.New("missing: the host's PublicKey belongs there")
	}
	var d WireGuardData
	if err := decode(text, &d); err != nil {
		return WireGuardData{}, err
	}
	return d, d.check()
}

func (d WireGuardData) check() error {
	key, err := base64.StdEncoding.Strict().DecodeString(d.PublicKey)
	if err != nil || len(key) != 32 {
		return fmt.Errorf("PublicKey: %q: 32 bytes in base64 belong there", d.PublicKey)
	}
	if [32]byte(key) == [32]byte{} {
		return errors.New("PublicKey: is nobody's: all zero")
	}
	return port("Port", d.Port, 0)
}

// maxExtension is how long what a PreStartupCommand prints may be, in bytes. An etcd
// takes values of 1.5 MB.
const maxExtension = 64 << 10

// MarshalExtension writes what a host's PreStartupCommand printed as flanneld does: it
// is BackendData, also for IPv6.
func MarshalExtension(printed string) (json.RawMessage, error) {
	if len(printed) > maxExtension {
		return nil, fmt.Errorf("%d bytes, at most %d are told to the other hosts", len(printed), maxExtension)
	}
	return json.Marshal(printed)
}

// ParseExtension reads that of another host, which may have said nothing.
func ParseExtension(text json.RawMessage) (printed string, err error) {
	if len(text) > 0 {
		err = decode(text, &printed)
	}
	if len(printed) > maxExtension {
		return "", fmt.Errorf("%d bytes, at most %d belong there", len(printed), maxExtension)
	}
	return printed, err
}

// check says by what hosts of a fabric's config know the devices of a value's host, or why
// they cannot reach its subnets.
func (v Value) check(c Config, s Subnet) (devices []string, err error) {
	if err := v.checkType(c.Backend); err != nil {
		return nil, err
	}
	if a := v.Public4; a.IsValid() && !ofOneHost(a) {
		return nil, fmt.Errorf("PublicIP: %s: is not the address of one host", a)
	}
	if a := v.Public6; a.IsValid() && !ofOneHost(a) {
		return nil, fmt.Errorf("PublicIPv6: %s: is not the address of one host", a)
	}
	if _, extension := c.Backend.(Extension); extension {
		if _, err := ParseExtension(v.BackendData); err != nil {
			return nil, fmt.Errorf("BackendData: %w", err)
		}
	}
	if s.V4.IsValid() {
		if devices, err = v.checkHalf(devices, c.Backend, v.Public4.IsValid(), "PublicIP: 0.0.0.0", "BackendData", v.BackendData); err != nil {
			return nil, err
		}
	}
	// Flannel's udp knows no IPv6.
	if _, udp := c.Backend.(UDP); s.V6.IsValid() && !udp {
		return v.checkHalf(devices, c.Backend, v.Public6.IsValid(), "PublicIPv6: missing", "BackendV6Data", v.BackendV6Data)
	}
	return devices, nil
}

// ofOneHost says whether packets to an address go to one other host, wherever that is.
func ofOneHost(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsLoopback() && (a.Is4() || !a.IsLinkLocalUnicast()) && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Devices are by what peers know the devices of a lease's host.
func (v Value) Devices() []string {
	var out []string
	for _, data := range [][]byte{v.BackendData, v.BackendV6Data} {
		switch v.BackendType {
		case VXLAN{}.Type():
			if d, err := ParseVXLAN(data); err == nil {
				out = append(out, d.device())
			}
		case WireGuard{}.Type():
			if d, err := ParseWireGuard(data); err == nil {
				out = append(out, d.device())
			}
		}
	}
	return out
}

func (d VXLANData) device() string     { return "VtepMAC " + d.VtepMAC.String() }
func (d WireGuardData) device() string { return "PublicKey " + d.PublicKey }

// checkType compares backends as flanneld's do: udp and alloc take everybody.
func (v Value) checkType(b Backend) error {
	switch b.(type) {
	case UDP, Alloc:
		return nil
	}
	if v.BackendType != b.Type() {
		return fmt.Errorf("BackendType: %q: the fabric is of %q", v.BackendType, b.Type())
	}
	return nil
}

// checkHalf is check for one family: it adds the device of that.
func (v Value) checkHalf(devices []string, b Backend, public bool, missing, field string, data json.RawMessage) ([]string, error) {
	// A WireGuard of one family's tunnel reaches both families.
	wg, ok := b.(WireGuard)
	if oneTunnel := ok && wg.Mode != "separate"; !public && !oneTunnel {
		return nil, fmt.Errorf("%s: its peers cannot reach it", missing)
	}
	switch b.(type) {
	case VXLAN:
		d, err := ParseVXLAN(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		devices = append(devices, d.device())
	case WireGuard:
		if _, err := ParseWireGuard(data); err != nil { // of one key twice the device's keeper tells
			return nil, fmt.Errorf("%s: %w", field, err)
		}
	}
	return devices, nil
}
