package uplink

import (
	"strings"
	"testing"
	"time"
)

// TestClientIsNamed runs a DHCP client on the NIC, which goes on there.
func TestClientIsNamed(t *testing.T) {
	a, _, _ := world(t)
	a.Must("sh", "-c", `ln -s "$(command -v busybox)" /run/udhcpc`)
	a.Start("/run/udhcpc", "-f", "-t", "1000", "-s", "/bin/true", "-i", "eth0")
	// The socket is of no device before it is bound, and of nobody for the attach.
	bound := "$5 == " + strings.TrimSpace(a.Must("cat", "/sys/class/net/eth0/ifindex")) + " { found = 1 } END { exit !found }"
	for end := time.Now().Add(30 * time.Second); a.Run("awk", bound, "/proc/net/packet").Code != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("udhcpc does not listen on eth0:\n%s", a.Must("cat", "/proc/net/packet"))
		}
	}
	rep, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(rep.Warnings, "\n"); !strings.HasPrefix(got, "udhcpc (process ") || !strings.Contains(got, "goes on asking for an address on eth0: let it serve br1 instead") {
		t.Errorf("warnings: %q", got)
	}
}
