package announce

import (
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func FuzzLink(f *testing.F) {
	b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.IFLA_ADDRESS, Data: make([]byte, 6)}, {Type: unix.IFLA_MASTER, Data: make([]byte, 4)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseLink([]netlink.Message{{Data: b}}); err == nil && len(b) < unix.SizeofIfInfomsg {
			t.Errorf("%x is a link", b)
		}
	})
}
