package trace

import (
	"net/netip"
	"testing"
)

// What the kernel was seen to choose by `jhash ip saddr mod N seed 0x5ea1`, and what
// jhash of include/linux/jhash.h gives for keys of 4 and of 16 bytes.
func TestHashed(t *testing.T) {
	for _, c := range []struct {
		addr    string
		n, want int
	}{{"10.1.0.2", 3, 1}, {"10.1.0.2", 1, 0}, {"fd01::2", 3, 0}, {"10.1.0.9", 100, 53}, {"fd01::9", 100, 62}} {
		if got := hashed(netip.MustParseAddr(c.addr), c.n); got != c.want {
			t.Errorf("%s of %d: %d, want %d", c.addr, c.n, got, c.want)
		}
	}
}
