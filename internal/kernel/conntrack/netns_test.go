package conntrack

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sealane/sealane/internal/lab/netspace"
)

func TestMain(m *testing.M) { netspace.Main(m) }

// TestForgetWhileAddressesChange forgets flows while addresses come and go, by which the
// kernel's list of them is interrupted.
func TestForgetWhileAddressesChange(t *testing.T) {
	table, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1500 { // more than one part of a list
		if err := netlink.AddrReplace(lo, address(i)); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var changes sync.WaitGroup
	defer changes.Wait()
	defer close(stop)
	changes.Go(func() {
		for i := 1500; ; i = 1500 + (i+1)%50 {
			select {
			case <-stop:
				return
			default:
			}
			if err := netlink.AddrAdd(lo, address(i)); err != nil {
				t.Error(err)
			}
			if err := netlink.AddrDel(lo, address(i)); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Millisecond) // else every list would be
		}
	})
	for range 50 {
		if err := table.forget(newStale()); err != nil {
			t.Fatal(err)
		}
	}
}

func address(i int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, byte(i>>8), byte(i)), Mask: net.CIDRMask(32, 32)}, Label: fmt.Sprintf("lo:%d", i)}
}
