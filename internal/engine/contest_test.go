package engine

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/serve/announce"
)

// TestContestOfAnEarlierReturn: what was asked when a container came back the last time
// but one says nothing of who has its address now.
func TestContestOfAnEarlierReturn(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web")
	r.plug("web", patched("br1", "192.168.1.1/24"))
	var mu sync.Mutex
	returns, slow := 0, make(chan struct{})
	r.e.cfg.Probe = func(context.Context, announce.Wire, netip.Addr) (net.HardwareAddr, error) {
		mu.Lock()
		returns++
		first := returns == 1
		mu.Unlock()
		if first {
			<-slow
			return nil, nil
		}
		return net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, nil
	}
	for want := range 2 {
		was := r.by("web").Inode
		r.inn.restart("docker:web")
		r.inn.hint("docker:web")
		eventually(t, "seated and asked about again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			i := r.by("web").Inode
			return i != was && i != 0 && returns > want
		})
	}
	const taken = "conflict network br1: address 192.168.1.1: used by 52:54:00:01:02:03"
	r.settles("web", taken)
	close(slow)
	time.Sleep(20 * time.Millisecond)
	r.equal("after the first answer", r.place("web"), taken)
}
