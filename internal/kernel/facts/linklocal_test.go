package facts

import (
	"fmt"
	"strings"
	"testing"
)

// The lines are from a host with an address of its own and a router's on eth0.
const addresses = `00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000001 02 40 00 80     eth0
fe800000000000000070d7fffe21dd4f 02 40 20 80     eth0
fe800000000000000000000000000001 09 40 20 80 slb13b3a6a4d764
fe80 short
xx line

`

func TestLinkLocals(t *testing.T) {
	if got, want := fmt.Sprint(linkLocals(strings.NewReader(addresses))), "[fe80::70:d7ff:fe21:dd4f fe80::1]"; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
