package linux

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// The macvlan of a container that has ended is there until the kernel has taken its
// namespace down: who comes with its hardware address waits for that. One that stays is
// named.
func TestTwin(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	run(t, "ip link add up0 up type veth peer name far0")
	run(t, "ip link set far0 up")
	twin := "ip link add mv0 address 02:42:0a:00:00:07 link up0 up type macvlan mode bridge"
	mine := kstate.Link{NS: a, Name: "eth0", Type: kstate.TypeMacvlan, MTU: 1500, MAC: "02:42:0a:00:00:07", Up: true, Parent: "up0", Mode: "bridge"}
	run(t, "%s", twin)
	err := k.Apply(context.Background(), kerneltest.Adds(mine))
	if err == nil || !strings.Contains(err.Error(), "hardware address 02:42:0a:00:00:07: another macvlan on up0 has it: address already in use") {
		t.Errorf("error is %v", err)
	}
	goes := exec.Command("sh", "-c", "sleep 0.1; ip link del mv0")
	if err := goes.Start(); err != nil {
		t.Fatal(err)
	}
	apply(t, k, kerneltest.Adds(mine)...)
	if err := goes.Wait(); err != nil {
		t.Error(err)
	}
}
