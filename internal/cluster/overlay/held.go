package overlay

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// Held is a port of a host, or some in a row, that a container of it has published.
type Held struct {
	Addr        netip.Addr // of the host; zero: all
	First, Last uint16
	Proto       string // "tcp", "udp" or "sctp"
	By          string // the container's name, for people
}

// String is "8080/tcp" or "192.0.2.1:8080-8090/udp".
func (h Held) String() string {
	text := strconv.Itoa(int(h.First))
	if h.Last != h.First {
		text += "-" + strconv.Itoa(int(h.Last))
	}
	if h.Addr.IsValid() {
		text = strings.TrimSuffix(netip.AddrPortFrom(h.Addr, 0).String(), "0") + text
	}
	return text + "/" + h.Proto
}

// parseHeld reads what String writes.
func parseHeld(text string) (h Held, err error) {
	rest, proto, _ := strings.Cut(text, "/")
	if i := strings.LastIndex(rest, ":"); i >= 0 {
		at, err := netip.ParseAddrPort(rest[:i] + ":0")
		if err != nil {
			return h, fmt.Errorf("port %q: want [ADDR:]PORT[-PORT]/PROTOCOL", text)
		}
		h.Addr, rest = at.Addr(), rest[i+1:]
	}
	first, last, several := strings.Cut(rest, "-")
	if !several {
		last = first
	}
	a, ok := number(first, 1<<16-1)
	b, is := number(last, 1<<16-1)
	h.First, h.Last, h.Proto = uint16(a), uint16(b), proto
	if !ok || !is || a > b || h.String() != text || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return Held{}, fmt.Errorf("port %q: want [ADDR:]PORT[-PORT]/PROTOCOL", text)
	}
	return h, nil
}

// maxHeld is how long a host's record of held ports may be, in bytes.
const maxHeld = 24 << 10

// heldText is the record: {"ports": {"8080/tcp": "web"}}.
type heldText struct {
	Ports map[string]string `json:"ports"`
}

// marshalHeld writes the record of held ports; nil: there are none. If they are too many
// it is without names, and with as many as fit.
func marshalHeld(all []Held) []byte {
	t := heldText{map[string]string{}}
	size := 0
	for _, named := range []bool{true, false} {
		size = 0
		clear(t.Ports)
		for _, h := range all {
			if !named {
				h.By = ""
			}
			if text := h.String(); size+len(text)+len(h.By)+6 <= maxHeld {
				t.Ports[text] = h.By
			}
			size += len(h.String()) + len(h.By) + 6
		}
		if size <= maxHeld {
			break
		}
	}
	text, err := json.Marshal(t)
	if err != nil || len(t.Ports) == 0 {
		return nil
	}
	return text
}

// ParseHeld reads a host's record of held ports, and says why it is none.
func ParseHeld(text []byte) ([]Held, error) {
	var t heldText
	if err := decode(text, &t); err != nil {
		return nil, err
	}
	var out []Held
	for _, port := range slices.Sorted(maps.Keys(t.Ports)) {
		h, err := parseHeld(port)
		if err != nil {
			return nil, err
		}
		if h.By = t.Ports[port]; !isText(h.By) {
			return nil, fmt.Errorf("port %s: want a name of up to %d printable bytes", port, maxText)
		}
		out = append(out, h)
	}
	return out, nil
}

// SetHeld says which ports of this host its containers have published: no service gets
// them from now on.
func (d *Directory) SetHeld(ports []Held) {
	k := d.keep
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holds && slices.Equal(k.ports, ports) {
		return
	}
	k.ports, k.held, k.holds, k.urgent = slices.Clone(ports), marshalHeld(ports), true, true
	k.poke()
}

// heldBy names a container that has a port of a host, or is "".
func (d *Directory) heldBy(r stock, p model.Publish) string {
	for _, k := range slices.SortedFunc(maps.Keys(r.items), byKey) {
		host := r.items[Key{Kind: KindHost, Host: k.Host}]
		if k.Kind != KindHeld || host == nil || k.Host == d.o.ID {
			continue
		}
		ports, err := ParseHeld(r.items[k].entry.Value)
		if who := heldIn(ports, p); who != "" && err == nil {
			return who + " of host " + hostName(host)
		}
	}
	d.keep.mu.Lock()
	own := d.keep.ports
	d.keep.mu.Unlock()
	if who := heldIn(own, p); who != "" {
		return who + " of host " + hostName(r.items[Key{Kind: KindHost, Host: d.o.ID}])
	}
	return ""
}

// hostName is how people call a host.
func hostName(i *item) string {
	if i == nil {
		return "this"
	}
	if h, err := ParseHost(i.entry.Value); err == nil && h.Name != "" {
		return h.Name
	}
	return i.key.Host
}

// heldIn names who has a port among those of a host.
func heldIn(all []Held, p model.Publish) string {
	for _, h := range all {
		if h.Proto != p.Proto || p.Port < h.First || p.Port > h.Last {
			continue
		}
		if len(p.Addrs) == 0 || slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return model.Meet(a, h.Addr) }) {
			return strings.TrimSpace("container " + h.By)
		}
	}
	return ""
}

// holds keeps the record of this host's held ports.
func (p *plan) holds(text []byte) {
	k := Key{Kind: KindHeld, Host: p.o.ID}
	i := p.real.items[k]
	switch {
	case text == nil && i != nil:
		p.units = append(p.units, gone(k, i.entry.Rev))
	case text != nil && (i == nil || !i.entry.Lasting || string(i.entry.Value) != string(text)):
		u := newUnit()
		u.put(k, p.real.rev(k), text, 0)
		p.units = append(p.units, u)
	}
}
