package security

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// flood is frames that are sent again and again, and where they must not arrive.
type flood struct {
	what    string
	from    *lab.Host
	sandbox string // "" is the host
	at      string // a sandbox
	tag     string // what is in the frame wherever it arrives
	data    []byte
	arrives bool // it is here to show that the test can tell
	sniffer *lab.Process
}

// windows changes what there is while packets that may not pass keep coming:
// there must be no moment at which one does.
func (w *world) windows() {
	nat, open := modes[0], modes[2]
	e, in := w.ends(nat), w.ends(modes[3])
	router := w.mac("", "eth0")
	mac, err := net.ParseMAC(strings.TrimSpace(w.attacker.Must("cat", "/sys/class/net/eth0/address")))
	if err != nil {
		w.Fatal(err)
	}
	outside := func(n network, port uint16) []byte {
		return ether(router, mac, typeIPv4, ip4([]byte{192, 0, 2, 3}, ends{network: n}.ip(web, false), 0, udp(9, port, "not to be seen by "+n.name+fmt.Sprint(port))))
	}
	to := ends{network: modes[1]}
	floods := []*flood{
		{what: "outside to an unpublished port", from: w.attacker, at: nat.web(), data: outside(nat, 81)},
		{what: "outside to a published port of the container", from: w.attacker, at: nat.web(), data: outside(nat, 80)},
		{what: "outside to a nat-unprotected network", from: w.attacker, at: open.web(), data: outside(open, 81), arrives: true},
		{what: "a container as the gateway", from: w.h, sandbox: nat.web(), at: nat.peer(), data: ether(broadcast, e.web, typeARP, arp(arpReply, e.web, e.ip(gateway, false), e.ip(peer, false)))},
		{what: "a container that comes and goes, as the gateway", from: w.h, sandbox: "guest", at: nat.peer(), data: ether(broadcast, other1, typeARP, arp(arpReply, other1, e.ip(gateway, false), e.ip(peer, false)))},
		{what: "an internal network to a routed one", from: w.h, sandbox: modes[3].web(), at: modes[1].web(), data: ether(in.bridge, in.web, typeIPv4, ip4(in.ip(web, false), to.ip(web, false), 0, udp(9, 80, "not to be seen by routed")))},
	}
	w.h.NetNS("guest")
	for _, f := range floods {
		text := hex.EncodeToString(f.data)
		if f.tag = text; binary.BigEndian.Uint16(f.data[12:]) == typeIPv4 {
			f.tag = text[2*(14+20+8):] // the hardware addresses and the TTL are others'
		}
		send := "until lab-echo send -for 60s -every 1ms eth0 " + text + " 2>/dev/null; do sleep 0.002; done"
		f.sniffer = w.start(w.h, append([]string{"sealane", "exec", f.at, "--"}, "lab-echo", "sniff", "eth0"))
		switch f.sandbox {
		case "":
			f.from.Start("sh", "-c", send)
		case "guest":
			f.from.Start("ip", "netns", "exec", "guest", "sh", "-c", strings.Replace(send, "-for 60s", "-for 20ms", 1)+"; while :; do "+send+"; done")
		default:
			f.from.Start("sealane", "exec", f.sandbox, "--", "sh", "-c", send)
		}
	}
	w.upheaval(nat)
	time.Sleep(50 * time.Millisecond)
	for _, f := range floods {
		w.Run(f.what, func(t *testing.T) {
			if n := strings.Count(f.sniffer.Output(), f.tag); n > 0 != f.arrives {
				t.Errorf("%d frames arrived, want any: %v", n, f.arrives)
			}
		})
	}
}

// upheaval does everything that changes the firewall.
func (w *world) upheaval(n network) {
	for range 3 {
		w.h.Must("sealane", "port", "add", n.web(), "8888:80/udp")
		w.h.Must("sealane", "network", "connect", n.name, "netns:/run/netns/guest")
		w.h.Must("sealane", "network", "connect", other.name, n.web())
		w.h.Must("sealane", "run", "--name", "more", "--network", n.name, "-p", "8889:81/udp")
		w.h.Must("sealane", "port", "rm", n.web(), "8888:80/udp")
		w.h.Must("sealane", "network", "disconnect", n.name, "netns:/run/netns/guest")
		w.h.Must("sealane", "network", "disconnect", other.name, n.web())
		w.h.Must("sealane", "rm", "-f", "more")
	}
	w.h.Restart()
	w.h.Kill9()
	w.h.Restart()
	change := w.h.Start("sh", "-c", "while sealane port add "+n.web()+" 8888:80/udp; do sealane port rm "+n.web()+" 8888:80/udp; done")
	time.Sleep(100 * time.Millisecond)
	w.h.Kill9()
	change.Wait()
	w.h.Restart()
}
