package linux

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// Settings of a far end are written last: disable_ipv6 would else keep its
// addresses from being made.
func TestSettingsOfAFarEnd(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	objs := endpoint(a, 0)
	l := objs[0].(kstate.Link)
	l.Peer.Sysctls = "net.ipv4.conf.eth0.rp_filter=2\nnet.ipv6.conf.eth0.forwarding=1"
	objs[0] = l
	apply(t, k, kerneltest.Adds(objs...)...)
	for name, want := range map[string]string{"net.ipv4.conf.eth0.rp_filter": "2", "net.ipv6.conf.eth0.forwarding": "1"} {
		if got := strings.TrimSpace(run(t, "nsenter --net=%s sysctl -n %s", a.Path, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	l.Name, l.Peer.Name, l.Peer.Sysctls = "slvbad", "eth9", "net.ipv4.conf.eth9.nosuch=1"
	if err := k.Apply(t.Context(), kerneltest.Adds(l)); err == nil || !strings.Contains(err.Error(), "net.ipv4.conf.eth9.nosuch=1: "+kernel.ErrMissing.Error()) {
		t.Errorf("error is %v", err)
	}
	if got := observe(t, k, a)[l.Key()]; got != nil {
		t.Errorf("there is still %v", got)
	}
}
