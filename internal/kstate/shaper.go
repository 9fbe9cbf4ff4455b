package kstate

import "fmt"

// Shaper lets what leaves a device go no faster than a rate: a token bucket at
// the device's root (tc-tbf(8)). The device is one of ours, of the host's.
type Shaper struct {
	Dev  string
	Rate uint64 // bytes of Ethernet frames a second
	// Burst is how many bytes may go at once after a pause, and the largest
	// frame that may go at all.
	Burst uint32
	Queue uint32 // bytes that wait at most; what comes when they do is dropped
}

// Key is the device: it has one root.
func (o Shaper) Key() Key { return Key{KindShaper, o.Dev} }

// On is the device.
func (o Shaper) On() []Key { return []Key{linkKey(NS{}, o.Dev)} }

// String is "shaper DEV rate BYTES burst BYTES queue BYTES".
func (o Shaper) String() string {
	return fmt.Sprintf("shaper %s rate %d burst %d queue %d", o.Dev, o.Rate, o.Burst, o.Queue)
}

// Redirect has what comes in by a device go out by another, an IFB, which gives
// it back to the first one as if it had just come in (drivers/net/ifb.c): what a
// device receives cannot wait, but what leaves an IFB can. Both are devices of
// ours, of the host's.
type Redirect struct {
	Dev string
	To  string // "" when observed: nowhere, or elsewhere than to a device of ours
}

// Key is the device.
func (o Redirect) Key() Key { return Key{KindRedirect, o.Dev} }

// On is the device alone: the other one takes nothing along when it goes, and
// what comes in is dropped.
func (o Redirect) On() []Key { return []Key{linkKey(NS{}, o.Dev)} }

// String is "redirect DEV to DEV".
func (o Redirect) String() string { return "redirect " + o.Dev + " to " + o.To }
