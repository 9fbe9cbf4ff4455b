package conntrack

import (
	"fmt"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func TestAddTakesHostPortsOfUDP(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	at := &kstate.NftSet{Name: "ports_at4", Type: "ipv4_addr . inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	open := &kstate.NftSet{Name: "open4", Type: "ipv4_addr . inet_proto . inet_service"}
	for _, c := range []struct {
		op   kstate.Op
		want string
	}{
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 5353"}}, "map[53:[10.0.0.2:5353]]"},
		{kstate.Op{Old: kstate.Elem{Set: at, At: "192.0.2.1 . udp . 53", Value: "10.0.0.2 . 53"}}, "map[53:[]]"},
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 65534-65535", Value: "10.0.0.2"}}, "map[65534:[10.0.0.2:65534] 65535:[10.0.0.2:65535]]"},
		{kstate.Op{
			Old: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 53"},
			New: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.3 . 53"},
		}, "map[53:[10.0.0.3:53]]"},
		{kstate.Op{New: kstate.Elem{Set: ports, At: "tcp . 53"}}, "map[]"},
		{kstate.Op{New: kstate.Elem{Set: open, At: "192.0.2.1 . udp . 53"}}, "map[]"},
		{kstate.Op{New: kstate.Addr{}}, "map[]"},
	} {
		got := Ports{}
		got.Add(c.op)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", c.op, got, c.want)
		}
	}
}

// TestAddFollowsAPort sees a port come, go and come again at another place.
func TestAddFollowsAPort(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	a := kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 53"}
	b := kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.3 . 53"}
	got := Ports{}
	for _, op := range []kstate.Op{{New: a}, {Old: a}, {New: b}} {
		got.Add(op)
	}
	if want := "map[53:[10.0.0.3:53]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
