package lab

import "github.com/sealane/sealane/internal/kernel/rtnl"

// Whole makes an interface of the host one that sends as a cable carries it: with
// checksums, and no segment larger than a frame. A veth leaves both to hardware that
// is not there, which only programs that read frames notice.
func (h *Host) Whole(ifname string) {
	h.t.Helper()
	if err := h.Do(func() error { return rtnl.SendWhole(ifname) }); err != nil {
		h.t.Fatalf("%s: %v", h.Name, err)
	}
}
