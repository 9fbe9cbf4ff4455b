package proxy

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzKernel reads anything as the kernel's words about a packet.
func FuzzKernel(f *testing.F) {
	client := netip.MustParseAddrPort("192.0.2.2:1000")
	for _, local := range []string{"192.0.2.1", "fe80::1"} {
		f.Add(udpKey{local: netip.MustParseAddr(local), iface: 3}.control())
	}
	f.Add(append(make([]byte, 4), replyTuple(client, client).Serialize()...))
	f.Add([]byte("0000\x06\x0000000")) // an attribute that ends with the message
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, ok := parseKey(client, b); ok {
			if !key.local.IsValid() || key.client != client || key.iface != 0 && !key.local.IsLinkLocalUnicast() {
				t.Errorf("%x: %+v", b, key)
			}
			if _, err := unix.ParseSocketControlMessage(key.control()); err != nil {
				t.Errorf("%+v: %v", key, err)
			}
		}
		if dst, ok := parseOriginal(b); ok && !dst.IsValid() {
			t.Errorf("%x: %v", b, dst)
		}
	})
}
