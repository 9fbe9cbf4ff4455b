package uplink

import (
	"strconv"

	"github.com/sealane/sealane/internal/kernel/sysctl"
)

// follow says how a bridge takes over a setting of its NIC.
type follow int

const (
	same   follow = iota // as the NIC has it
	most                 // the higher of the two: others on the bridge may need it
	enable               // only if that switches off what is off on the NIC
)

// settings are those of a device that decide what the host does with what comes in
// by it (Documentation/networking/ip-sysctl.rst), in the order in which they are
// written: turning forwarding on drops advertised routes unless accept_ra says not.
var settings = []struct {
	name string
	follow
}{
	{"ipv6/conf/DEV/disable_ipv6", enable},
	{"ipv6/conf/DEV/accept_ra", same}, {"ipv6/conf/DEV/accept_ra_defrtr", same}, {"ipv6/conf/DEV/accept_ra_pinfo", same},
	{"ipv6/conf/DEV/accept_ra_mtu", same}, {"ipv6/conf/DEV/accept_ra_rtr_pref", same}, {"ipv6/conf/DEV/accept_ra_rt_info_min_plen", same},
	{"ipv6/conf/DEV/accept_ra_rt_info_max_plen", same}, {"ipv6/conf/DEV/ra_defrtr_metric", same},
	{"ipv6/conf/DEV/autoconf", same}, {"ipv6/conf/DEV/use_tempaddr", same}, {"ipv6/conf/DEV/temp_valid_lft", same}, {"ipv6/conf/DEV/temp_prefered_lft", same},
	{"ipv6/conf/DEV/accept_redirects", same}, {"ipv6/conf/DEV/hop_limit", same},
	{"ipv6/conf/DEV/forwarding", most}, {"ipv6/conf/DEV/proxy_ndp", most},
	{"ipv4/conf/DEV/forwarding", most}, {"ipv4/conf/DEV/proxy_arp", most}, {"ipv4/conf/DEV/promote_secondaries", most},
	{"ipv4/conf/DEV/accept_local", same}, {"ipv4/conf/DEV/accept_redirects", same}, {"ipv4/conf/DEV/secure_redirects", same},
	{"ipv4/conf/DEV/send_redirects", same}, {"ipv4/conf/DEV/arp_ignore", same}, {"ipv4/conf/DEV/arp_announce", same},
	{"ipv4/conf/DEV/arp_filter", same}, {"ipv4/conf/DEV/arp_notify", same}, {"ipv4/conf/DEV/src_valid_mark", same}, {"ipv4/conf/DEV/log_martians", same},
	{rpFilter, same},
}

// rpFilter is the one that has to be lenient while a route and what it leads to are
// not by the same device. 2 is: the sender is known by some route. It wins over a
// strict 1 for all devices (IN_DEV_RPFILTER in include/linux/inetdevice.h).
const (
	rpFilter = "ipv4/conf/DEV/rp_filter"
	lenient  = "2"
)

// setting is the name of a setting of one device.
func setting(name, dev string) string {
	const mark = "DEV"
	for i := range len(name) - len(mark) {
		if name[i:i+len(mark)] == mark {
			return "net/" + name[:i] + dev + name[i+len(mark):]
		}
	}
	return "net/" + name
}

// readSettings reads those that this kernel has.
func readSettings(dev string) map[string]string {
	out := map[string]string{}
	for _, s := range settings {
		if v, err := sysctl.Read(setting(s.name, dev)); err == nil {
			out[s.name] = v
		}
	}
	return out
}

// inherited returns what a bridge should have for its NIC's sake, and has not.
func inherited(nic, bridge map[string]string) map[string]string {
	out := map[string]string{}
	for _, s := range settings {
		want, has := nic[s.name]
		have, known := bridge[s.name]
		if !has || !known || want == have {
			continue
		}
		w, _ := strconv.Atoi(want)
		h, _ := strconv.Atoi(have)
		if s.follow == same || s.follow == most && w > h || s.follow == enable && w < h {
			out[s.name] = want
		}
	}
	return out
}

// changing returns those of the bridge's settings that will not stay.
func changing(nic, bridge map[string]string) map[string]string {
	out := map[string]string{}
	for name := range inherited(nic, bridge) {
		out[name] = bridge[name]
	}
	if v, has := bridge[rpFilter]; has {
		out[rpFilter] = v
	}
	return out
}

// writeSettings writes those in values, in the order of the table.
func (m *mover) writeSettings(dev string, values map[string]string) error {
	for _, s := range settings {
		v, ok := values[s.name]
		if !ok {
			continue
		}
		if have, err := sysctl.Read(setting(s.name, dev)); err == nil && have == v {
			continue
		}
		m.before()
		if err := sysctl.Write(setting(s.name, dev), v); err != nil {
			return err
		}
	}
	return nil
}
