package facts

import (
	"os"
	"strings"
)

// strictPath is the setting of all devices, of which and a device's own the higher counts:
// 0 lets any source in, 1 one that is reached by the same device, 2 one that is reached
// (Documentation/networking/ip-sysctl.rst of the kernel).
const strictPath = "/proc/sys/net/ipv4/conf/all/rp_filter"

// StrictPaths reports whether the kernel drops what comes in by a device that its source is
// not reached by, unless a device has a setting of its own that is higher: whether
// net.ipv4.conf.all.rp_filter is 1.
func StrictPaths() bool {
	b, err := os.ReadFile(strictPath)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
