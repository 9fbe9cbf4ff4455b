package kstate

// Uplink is a NIC of the host that is a port of a bridge, which has its addresses
// and routes. Observe returns none and Apply takes none: they are moved by a process
// of its own, that goes back by itself. It is an object so that its ops are told with
// the others.
type Uplink struct {
	NIC    string
	Bridge string // a device; "" if the NIC is no port of it
	Stray  string // what the NIC has and the bridge should have, with spaces between
}

// KindUplink is above all others: a NIC is moved when its bridge is there, and back
// before that goes.
const KindUplink Kind = 255

// Key is the NIC.
func (o Uplink) Key() Key { return Key{KindUplink, o.NIC} }

// On is empty: what becomes of a NIC whose bridge goes is said by its own op.
func (o Uplink) On() []Key { return nil }

// String is "uplink NIC bridge NAME", with " stray ADDRESS…".
func (o Uplink) String() string {
	s := "uplink " + o.NIC + " bridge " + o.Bridge
	if o.Stray != "" {
		s += " stray " + o.Stray
	}
	return s
}
