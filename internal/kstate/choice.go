package kstate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Choice says that connect(2) by TCP to a service's address leads to one of its
// backends, as if that had been asked for. It concerns the sockets of namespaces with
// a [Chooser] of its VNI, and no packet.
type Choice struct {
	VNI   int            // of the service's network
	At    netip.AddrPort // the service, which is asked for by one network alone
	Turns bool           // one after the other; else by chance
	// Backends are at most MaxBackends, of At's family, in order, each as often as it weighs.
	Backends []netip.AddrPort
}

// MaxBackends is how many a choice is made from.
const MaxBackends = 4096

// Key is the service's address and port.
func (o Choice) Key() Key { return Key{KindChoice, o.At.String()} }

// On is empty.
func (o Choice) On() []Key { return nil }

// String is "choice ADDR:PORT id VNI random ADDR:PORT ADDR:PORT", or "… turns …".
func (o Choice) String() string {
	var b strings.Builder
	how := "random"
	if o.Turns {
		how = "turns"
	}
	fmt.Fprintf(&b, "choice %s id %d %s", o.At, o.VNI, how)
	for _, a := range o.Backends {
		b.WriteByte(' ')
		b.WriteString(a.String())
	}
	return b.String()
}

// Check says what cannot be.
func (o Choice) Check() error {
	switch n := len(o.Backends); {
	case !plain(o.At):
		return fmt.Errorf("service %s: want an address without a zone, and a port", o.At)
	case o.VNI < 1 || o.VNI >= 1<<24:
		return fmt.Errorf("VNI %d: want 1 to %d", o.VNI, 1<<24-1)
	case n == 0:
		return errors.New("there is no backend")
	case n > MaxBackends:
		return fmt.Errorf("%d backends: at most %d", n, MaxBackends)
	}
	for _, a := range o.Backends {
		if !plain(a) || a.Addr().Is4() != o.At.Addr().Is4() {
			return fmt.Errorf("backend %s: want an address of the service's family, and a port", a)
		}
	}
	return nil
}

func plain(a netip.AddrPort) bool {
	return a.Addr().IsValid() && !a.Addr().IsUnspecified() && !a.Addr().Is4In6() && a.Addr().Zone() == "" && a.Port() != 0
}

// Chooser says that sockets of a namespace choose among the backends of a network's
// services, see [Choice]. In a namespace that is not there nobody does, and that is no
// failure: it may be one that a container engine has still to make, or has removed.
type Chooser struct {
	NS  NS
	VNI int
}

// MaxChooserPath is how long the path of a chooser's namespace may be, in bytes.
const MaxChooserPath = 248

// Key is everything in it.
func (o Chooser) Key() Key { return Key{KindChooser, o.String()} }

// On is the namespace.
func (o Chooser) On() []Key { return []Key{NetNS{NS: o.NS}.Key()} }

// String is "netns PATH chooser id VNI".
func (o Chooser) String() string { return o.NS.in(fmt.Sprintf("chooser id %d", o.VNI)) }

// Check says what cannot be.
func (o Chooser) Check() error {
	switch {
	case o.NS.IsHost():
		return errors.New("the host has none")
	case len(o.NS.Path) > MaxChooserPath:
		return fmt.Errorf("path of %d bytes: at most %d", len(o.NS.Path), MaxChooserPath)
	case o.VNI < 1 || o.VNI >= 1<<24:
		return fmt.Errorf("VNI %d: want 1 to %d", o.VNI, 1<<24-1)
	}
	return nil
}
