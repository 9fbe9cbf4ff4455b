package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

const (
	opAttach = "attach"
	opDetach = "detach"
)

// refuse returns why a NIC cannot be moved under a bridge, or nil. Nothing has been
// changed yet.
func refuse(mv Move, all map[string]device, again bool, sw switches) error {
	no := func(kind model.Kind, format string, args ...any) *model.Error {
		return model.Errorf(kind, "uplink "+mv.NIC, opAttach, format, args...)
	}
	nic, has := all[mv.NIC]
	switch {
	case !has:
		return no(model.NotFound, "no such device").WithHint("it has to be in the host's own network namespace")
	case nic.loopback:
		return no(model.Invalid, "is the loopback device")
	case mv.NIC == mv.Bridge:
		return no(model.Invalid, "is the bridge itself")
	case nic.kind == kindBridge || nic.kind == kindOVS:
		return no(model.Invalid, "is a bridge")
	case !nic.ether || len(nic.mac) != 6:
		return no(model.Unsupported, "is no Ethernet device, and cannot be a port of a bridge")
	case wireless("/sys/class/net", mv.NIC):
		return no(model.Unsupported, "is wireless: an access point takes frames of its own station only")
	case nic.group == groupOurs || nic.group == kstate.GroupNamed:
		return no(model.Invalid, "is a device that Sealane made")
	}
	if child := occupied(all, nic); child != "" {
		return no(model.InUse, "device %s is on it, and takes what comes in before a bridge could", child)
	}
	master, err := sw.PortOf(mv.NIC) // the kernel does not say, or only that it is one
	if err != nil && !errors.Is(err, kernel.ErrNotRunning) {
		return no(model.Internal, "%w", err)
	}
	if master == mv.NIC {
		return no(model.Invalid, "is a bridge")
	}
	if nic.master != 0 || master != "" {
		master = cmp.Or(master, named(all, nic.master))
		if master != mv.Bridge || !again {
			return no(model.Conflict, "is a port of %s already", master)
		}
	}
	return refuseBridge(mv, all, sw, no)
}

// groupOurs is the link group of devices that Sealane makes.
const groupOurs = 24225

func refuseBridge(mv Move, all map[string]device, sw switches, no func(model.Kind, string, ...any) *model.Error) error {
	br, has := all[mv.Bridge]
	if !has {
		if !mv.Make {
			return no(model.NotFound, "bridge %s does not exist", mv.Bridge)
		}
		return nil
	}
	if br.kind == kindBridge {
		return nil
	}
	if ovs, err := sw.Has(mv.Bridge); err != nil || ovs {
		return err
	}
	return no(model.Conflict, "%s: exists and is %s, not a bridge", mv.Bridge, kindWords(br))
}

func kindWords(d device) string {
	switch {
	case d.loopback:
		return "the loopback device"
	case d.kind == "":
		return "a NIC"
	}
	return "a " + d.kind
}

// occupied returns a device that is on the NIC and takes its frames: VLANs take
// theirs before a bridge does, these take the place of one (rx_handler in
// net/core/dev.c).
func occupied(all map[string]device, nic device) string {
	var names []string
	for name, d := range all {
		if d.lower == nic.index && slices.Contains([]string{"macvlan", "macvtap", "ipvlan", "ipvtap"}, d.kind) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// wireless reports whether a device is a radio's: nl80211 links those to their phy.
func wireless(sys, dev string) bool {
	for _, name := range []string{"phy80211", "wireless"} {
		if _, err := os.Stat(filepath.Join(sys, dev, name)); err == nil {
			return true
		}
	}
	return false
}

// warnings say what goes on as before, and no longer as meant.
func (c conn) warnings(mv Move, nic device, it items) []string {
	var out []string
	if name, pid := client(nic.index); name != "" {
		out = append(out, fmt.Sprintf("%s (process %s) goes on asking for an address on %s: let it serve %s instead, as docs/uplink.md says", name, pid, mv.NIC, mv.Bridge))
	} else if slices.ContainsFunc(it.Addresses, leased) {
		out = append(out, fmt.Sprintf("an address of %s has a lifetime: let what renews it serve %s, as docs/uplink.md says", mv.NIC, mv.Bridge))
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		header := make([]byte, 12) // struct fib_rule_hdr
		header[0] = family
		rules, err := c.list(unix.RTM_GETRULE, header)
		if err != nil {
			continue // a kernel without rules has none
		}
		for _, r := range rules {
			if pref, dir := names(r, mv.NIC); dir != "" {
				out = append(out, fmt.Sprintf("routing rule %d is about packets %s %s, which come and go by %s now", pref, dir, mv.NIC, mv.Bridge))
			}
		}
	}
	return out
}

// leased reports whether an IPv4 address has a lifetime: somebody renews it.
func leased(a item) bool { return a[0] == unix.AF_INET && flagsOf(a)&unix.IFA_F_PERMANENT == 0 }

// Attributes of rules (include/uapi/linux/fib_rules.h).
const (
	fraIIF      = 3
	fraPriority = 6
	fraOIF      = 17
)

// names returns the number of a rule that names a device, and the direction.
func names(rule []byte, dev string) (pref uint32, dir string) {
	if len(rule) < 12 {
		return 0, ""
	}
	attrs := split(rule[12:])
	switch {
	case text(find(attrs, fraIIF)) == dev:
		dir = "from"
	case text(find(attrs, fraOIF)) == dev:
		dir = "to"
	}
	return number(find(attrs, fraPriority)), dir
}

func prefixes(it items) (out []string) {
	for _, a := range it.Addresses {
		if !a.linkLocal() {
			out = append(out, a.prefix().String())
		}
	}
	return out
}
