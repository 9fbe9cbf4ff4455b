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
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 53"}}, "map[53:true]"},
		{kstate.Op{Old: kstate.Elem{Set: at, At: "192.0.2.1 . udp . 53"}}, "map[53:true]"},
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 65534-65535"}}, "map[65534:true 65535:true]"},
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
