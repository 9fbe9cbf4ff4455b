package facts

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSideRoutes(t *testing.T) {
	var got []netip.Prefix
	err := inNewNamespace(func() error {
		for _, line := range []string{
			"link add up0 type veth peer name far0", "link set up0 up", "link set far0 up", "addr add 192.0.2.1/24 dev up0",
			"route add 203.0.113.0/24 dev up0",
			"route add 10.8.0.0/16 dev up0 table 52", "route add 10.9.0.0/24 dev up0 table 51820", "route add 10.9.0.0/24 dev up0 table 220",
			"route add default dev up0 table 51820", "route add blackhole 10.10.0.0/16 table 52", "route add 10.11.0.0/16 dev up0 table 52 proto 83", "-6 route add fd77::/48 dev up0 table 52",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", line, err, out)
			}
		}
		got = SideRoutes()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	if want := "[10.8.0.0/16 10.9.0.0/24 10.9.0.0/24 fd77::/48]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// inNewNamespace runs f in a network namespace that goes with it.
func inNewNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func FuzzSideRoutes(f *testing.F) {
	f.Add([]byte{2, 16, 0, 0, 52, 3, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 8, 0, 0})
	f.Add([]byte{10, 200, 0, 0, 52, 3, 0, 1, 0, 0, 0, 0, 5, 0, 1, 0, 10})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWROUTE}, Data: body}
		for _, p := range sideRoutes([]syscall.NetlinkMessage{m}) {
			if !p.IsValid() || p.Bits() == 0 {
				t.Errorf("%v", p)
			}
		}
	})
}
