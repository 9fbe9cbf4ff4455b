package overlay

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// Kind is what a key is about.
type Kind string

// The kinds of key. A key begins with its kind.
const (
	KindNetwork  Kind = "networks"
	KindName     Kind = "names"
	KindVNI      Kind = "vnis"
	KindOrder    Kind = "order"
	KindHost     Kind = "hosts"
	KindAlive    Kind = "alive"
	KindAddress  Kind = "addresses"
	KindEndpoint Kind = "endpoints"
	KindService  Kind = "services"
	KindNumber   Kind = "numbers"
	KindPort     Kind = "ports"
	KindHeld     Kind = "held"
)

// Key is a key under Options.Prefix. What its kind has no use for is zero.
type Key struct {
	Kind     Kind
	Network  model.ID   // of networks, addresses, endpoints and services
	Name     string     // of names, and of services, in lower case
	VNI      int        // of vnis
	Host     string     // its ID: of hosts, alive, endpoints and held
	Addr     netip.Addr // of addresses
	Endpoint model.ID   // of endpoints
	Number   int        // of numbers: a host's, from 1 to model.MaxHostNumber
	Port     uint16     // of ports
	Proto    string     // of ports: "tcp", "udp" or "sctp"
}

// String is the key without the prefix and the slash after it.
func (k Key) String() string {
	switch k.Kind {
	case KindNetwork:
		return string(k.Kind) + "/" + string(k.Network)
	case KindName:
		return string(k.Kind) + "/" + k.Name
	case KindVNI:
		return string(k.Kind) + "/" + strconv.Itoa(k.VNI)
	case KindHost, KindAlive, KindHeld:
		return string(k.Kind) + "/" + k.Host
	case KindNumber:
		return string(k.Kind) + "/" + strconv.Itoa(k.Number)
	case KindPort:
		return string(k.Kind) + "/" + k.Proto + "/" + strconv.Itoa(int(k.Port))
	case KindAddress:
		return string(k.Kind) + "/" + string(k.Network) + "/" + k.Addr.String()
	case KindService:
		return string(k.Kind) + "/" + string(k.Network) + "/" + k.Name
	case KindEndpoint:
		return string(k.Kind) + "/" + string(k.Network) + "/" + k.Host + "/" + string(k.Endpoint)
	}
	return string(k.Kind)
}

// ParseKey reads what String writes, and nothing else: no two texts are one key.
func ParseKey(text string) (k Key, ok bool) {
	parts := strings.Split(text, "/")
	if k.Kind = Kind(parts[0]); len(parts) != k.Kind.parts() {
		return Key{}, false
	}
	switch k.Kind {
	case KindNetwork:
		k.Network, ok = model.ID(parts[1]), isID(parts[1])
	case KindName:
		k.Name, ok = parts[1], model.CheckName(parts[1]) == nil
	case KindVNI:
		k.VNI, ok = number(parts[1], MaxVNI)
	case KindNumber:
		k.Number, ok = number(parts[1], model.MaxHostNumber)
	case KindPort:
		n, is := number(parts[2], 1<<16-1)
		k.Proto, k.Port, ok = parts[1], uint16(n), is && slices.Contains([]string{"tcp", "udp", "sctp"}, parts[1])
	case KindHost, KindAlive, KindHeld:
		k.Host, ok = parts[1], isID(parts[1])
	case KindAddress:
		a, err := netip.ParseAddr(parts[2])
		k.Network, k.Addr = model.ID(parts[1]), a
		ok = err == nil && isID(parts[1]) && checkAddr(a) == nil && a.String() == parts[2]
	case KindEndpoint:
		k.Network, k.Host, k.Endpoint = model.ID(parts[1]), parts[2], model.ID(parts[3])
		ok = isID(parts[1]) && isID(parts[2]) && isID(parts[3])
	case KindService:
		k.Network, k.Name = model.ID(parts[1]), parts[2]
		ok = isID(parts[1]) && model.CheckName(parts[2]) == nil && strings.ToLower(parts[2]) == parts[2]
	case KindOrder:
		ok = true
	}
	if !ok {
		return Key{}, false
	}
	return k, true
}

// number reads a number from 1 on as strconv.Itoa writes it.
func number(text string, most int) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && n <= most && strconv.Itoa(n) == text
}

// parts is how many parts a key of a kind has, 0: there is no such kind.
func (k Kind) parts() int {
	switch k {
	case KindOrder:
		return 1
	case KindNetwork, KindName, KindVNI, KindHost, KindAlive, KindNumber, KindHeld:
		return 2
	case KindAddress, KindService, KindPort:
		return 3
	case KindEndpoint:
		return 4
	}
	return 0
}

// isID says whether a text can be the ID of a network, a host or an endpoint.
func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
