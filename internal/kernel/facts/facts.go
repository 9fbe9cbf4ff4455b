// Package facts reads what compile has to know about the host besides devices,
// addresses and routes: how bridged packets are filtered, which devices live
// on IPv6 router advertisements, and the host's resolvers.
package facts

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// RouterAdvertised lists the devices with a default route learnt from an IPv6
// router advertisement, sorted. The source is /proc/net/ipv6_route; a host
// without IPv6 has none.
func RouterAdvertised() []string {
	f, err := os.Open("/proc/thread-self/net/ipv6_route")
	if err != nil {
		return nil
	}
	defer f.Close()
	return routerAdvertised(f)
}

// Wireless lists the host's devices that are behind a radio. Most hosts have none,
// so the radios are asked, not each of perhaps thousands of devices.
func Wireless() []string {
	if radios, err := os.ReadDir("/sys/class/ieee80211"); err != nil || len(radios) == 0 {
		return nil
	}
	paths, _ := filepath.Glob("/sys/class/net/*/phy80211") // the pattern is well-formed
	var devs []string
	for _, p := range paths {
		devs = append(devs, filepath.Base(filepath.Dir(p)))
	}
	return devs
}

// Flags of include/uapi/linux/ipv6_route.h.
const (
	rtfDefault  = 0x00010000
	rtfAddrconf = 0x00040000
)

// routerAdvertised parses the ten columns of ipv6_route: the flags are the
// ninth, in hex, and the device is the last.
func routerAdvertised(r io.Reader) []string {
	var devs []string
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		if err == nil && flags&(rtfDefault|rtfAddrconf) == rtfDefault|rtfAddrconf && !slices.Contains(devs, f[9]) {
			devs = append(devs, f[9])
		}
	}
	slices.Sort(devs)
	return devs
}

// The files that list name servers. systemd-resolved's own list comes first
// when the other only names its stub on 127.0.0.53.
const (
	resolvConf     = "/etc/resolv.conf"
	resolvUpstream = "/run/systemd/resolve/resolv.conf"
)

// OwnResolvConf returns the text of the host's resolv.conf as its own programs
// read it, or "".
func OwnResolvConf() string {
	b, _ := os.ReadFile(resolvConf)
	return string(b)
}

// ResolvConf returns the text of the host's resolv.conf that names servers
// outside the host, or "".
func ResolvConf() string {
	b, err := os.ReadFile(resolvConf)
	if err != nil {
		return ""
	}
	if strings.Contains(string(b), "127.0.0.53") {
		if up, err := os.ReadFile(resolvUpstream); err == nil {
			return string(up)
		}
	}
	return string(b)
}
