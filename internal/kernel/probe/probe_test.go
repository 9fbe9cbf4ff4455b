package probe

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// Every answer is one of the three, and a yes about a link type is the same
// yes that ip(8) gets.
func TestLinkAgreesWithIP(t *testing.T) {
	before := links(t)
	for _, typ := range []string{"veth", "bridge", "dummy", "wireguard", "vxlan", "nosuchtype"} {
		args := []string{"link", "add", "probe9", "type", typ}
		if typ == "vxlan" {
			args = append(args, "id", "1", "dstport", "4789")
		}
		ip := apart(func() error { return exec.Command("ip", args...).Run() })
		if err := Link(typ); (err == nil) != (ip == nil) || err != nil && !errors.Is(err, kernel.ErrUnsupported) {
			t.Errorf("%s: %v, and ip(8): %v", typ, err, ip)
		}
	}
	for _, typ := range []string{"macvlan", "ipvlan", "vlan"} {
		if err := Link(typ); err != nil && !errors.Is(err, kernel.ErrUnsupported) {
			t.Errorf("%s: %v: want a sure answer", typ, err)
		}
	}
	if after := links(t); after != before {
		t.Errorf("%d links before, %d after", before, after)
	}
}

// links counts the devices here: the probes must leave none.
func links(t *testing.T) int {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestSureAnswers(t *testing.T) {
	for name, ask := range map[string]func() error{
		"nftables": Nftables, "nsid": AllNSID, "ipv6": IPv6, "br_netfilter": BridgeNetfilter, "limits": Limits, "vlan-filtering": Sorting, "tun": TUN,
	} {
		if err := ask(); err != nil && !errors.Is(err, kernel.ErrUnsupported) {
			t.Errorf("%s: %v: want a sure answer", name, err)
		}
	}
}

// Without privileges nothing is sure.
func TestUnprivileged(t *testing.T) {
	done := make(chan error, 1)
	go func() { // on a thread of its own, which ends without its capabilities
		if err := dropCapabilities(); err != nil {
			done <- err
			return
		}
		done <- AllNSID()
	}()
	if err := <-done; err == nil || errors.Is(err, kernel.ErrUnsupported) || !errors.Is(err, unix.EPERM) {
		t.Errorf("without capabilities: %v: want permission denied and no sure answer", err)
	}
}

func TestBridgeCalls(t *testing.T) {
	if BridgeNetfilter() != nil {
		if on, err := BridgeCalls(); on != nil || err != nil {
			t.Errorf("on without br_netfilter: %v, %v", on, err)
		}
		return
	}
	err := apart(func() error {
		const name = "bridge-nf-call-iptables"
		for _, want := range []string{"0", "1"} {
			if err := os.WriteFile(bridgeSettings+"/"+name, []byte(want), 0); err != nil {
				return err
			}
			on, err := BridgeCalls()
			if err != nil {
				return err
			}
			if slices.Contains(on, name) != (want == "1") {
				t.Errorf("%s=%s: on are %v", name, want, on)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
