package facts

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strings"
)

// LinkLocals lists the host's link-local addresses of IPv6, of all devices, without
// zones. The source is /proc/net/if_inet6; a host without IPv6 has none.
func LinkLocals() []netip.Addr {
	f, err := os.Open("/proc/thread-self/net/if_inet6")
	if err != nil {
		return nil
	}
	defer f.Close()
	return linkLocals(f)
}

// linkLocals parses the six columns of if_inet6: the address is the first, in hex.
func linkLocals(r io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := bufio.NewScanner(r); lines.Scan(); {
		column, _, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(column)
		if a, ok := netip.AddrFromSlice(b); err == nil && ok && a.Is6() && a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}
