package pipework

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestRequest has every form of the script's that asks for an interface, with what
// the daemon is asked for.
func TestRequest(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"br1 web 192.168.1.1/24", `{"device":"br1","container":"web","ip":"192.168.1.1/24","ifname":"eth1","command":"br1 -i eth1 web 192.168.1.1/24"}`},
		{"br1 -i eth2 web 192.168.1.1/24", `{"device":"br1","container":"web","ip":"192.168.1.1/24","ifname":"eth2","command":"br1 -i eth2 web 192.168.1.1/24"}`},
		{"br1 -i eth2 -l up web 192.168.1.1/24", `{"device":"br1","container":"web","ip":"192.168.1.1/24","ifname":"eth2","options":{"hostif":"up"},"command":"br1 -i eth2 -l up web 192.168.1.1/24"}`},
		{"-l up br1 -a inet -i eth2 web 192.168.1.1/24", `{"device":"br1","container":"web","ip":"192.168.1.1/24","ifname":"eth2","options":{"hostif":"up"},"command":"br1 -i eth2 -l up web 192.168.1.1/24"}`},
		{"br1 web 192.168.1.1/24@192.168.1.254", `{"device":"br1","container":"web","ip":"192.168.1.1/24","ifname":"eth1","options":{"gateway":"192.168.1.254"},"command":"br1 -i eth1 web 192.168.1.1/24@192.168.1.254"}`},
		{"br1 web fd00::7/64@fd99::1", `{"device":"br1","container":"web","ip6":"fd00::7/64","ifname":"eth1","options":{"gateway":"fd99::1"},"command":"br1 -i eth1 web fd00::7/64@fd99::1"}`},
		{"br1 -a inet6 web FD00:0::7/64", `{"device":"br1","container":"web","ip6":"fd00::7/64","ifname":"eth1","command":"br1 -i eth1 web fd00::7/64"}`},
		{"br1 web 10.0.0.1/8@10.9.9.9,fd00::7/64,10.0.0.2/8", `{"device":"br1","container":"web","ip":"10.0.0.1/8,10.0.0.2/8","ip6":"fd00::7/64","ifname":"eth1","options":{"gateway":"10.9.9.9"},"command":"br1 -i eth1 web 10.0.0.1/8@10.9.9.9,fd00::7/64,10.0.0.2/8"}`},
		{"br1 web fe80::7/64,10.0.0.1/8,fe80::8/64@fe80::1", `{"device":"br1","container":"web","ip":"10.0.0.1/8","linkLocalIPs":["fe80::7","fe80::8"],"ifname":"eth1","options":{"gateway":"fe80::1"},"command":"br1 -i eth1 web fe80::7/64@fe80::1,10.0.0.1/8,fe80::8/64"}`},
		{"br1 web 0/0", `{"device":"br1","container":"web","ifname":"eth1","command":"br1 -i eth1 web 0/0"}`},
		{"br1 web 0.0.0.0/0 52:54:0:12:34:56", `{"device":"br1","container":"web","mac":"52:54:00:12:34:56","ifname":"eth1","command":"br1 -i eth1 web 0/0 52:54:00:12:34:56"}`},
		{"br1 web 10.0.0.1/8 U:myhost.foo.com", `{"device":"br1","container":"web","ip":"10.0.0.1/8","mac":"02:72:6c:cd:9b:8d","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 02:72:6c:cd:9b:8d"}`},
		{"br1 web 0/0@10.0.0.9", `{"device":"br1","container":"web","ifname":"eth1","options":{"gateway":"10.0.0.9"},"command":"br1 -i eth1 web 0/0@10.0.0.9"}`},
		{"br1 web fd00::1/64,0/0@10.0.0.9", `{"device":"br1","container":"web","ip6":"fd00::1/64","ifname":"eth1","options":{"gateway":"10.0.0.9"},"command":"br1 -i eth1 web fd00::1/64,0/0@10.0.0.9"}`},
		{"br1 web 10.0.0.1/8@", `{"device":"br1","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8"}`},
		{"br1 web 10.0.0.1/8@10.0.0.9@10.0.0.8", `{"device":"br1","container":"web","ip":"10.0.0.1/8","ifname":"eth1","options":{"gateway":"10.0.0.9"},"command":"br1 -i eth1 web 10.0.0.1/8@10.0.0.9"}`},
		{"br1 web 10.0.0.1/8@@10.0.0.9", `{"device":"br1","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8"}`},
		{"br1 web 0/24@10.0.0.9", `{"device":"br1","container":"web","ifname":"eth1","options":{"gateway":"10.0.0.9"},"command":"br1 -i eth1 web 0/0@10.0.0.9"}`},
		{"br1 web 0.0.0.0/8", `{"device":"br1","container":"web","ifname":"eth1","command":"br1 -i eth1 web 0/0"}`},
		{"br1 web 10.0.0.1/8 52:54:00:12:34:56@", `{"device":"br1","container":"web","ip":"10.0.0.1/8","mac":"52:54:00:12:34:56","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 52:54:00:12:34:56"}`},
		{"br1 web 10.0.0.1/8 U:a++b+", `{"device":"br1","container":"web","ip":"10.0.0.1/8","mac":"02:75:57:d2:f3:a6","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 02:75:57:d2:f3:a6"}`},
		{"br1 web 10.0.0.1/8 U:myhost.foo.com@", `{"device":"br1","container":"web","ip":"10.0.0.1/8","mac":"02:72:6c:cd:9b:8d","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 02:72:6c:cd:9b:8d"}`},
		{"br1 web 10.0.0.1/8 @", `{"device":"br1","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8"}`},
		{"br1 web 10.0.0.1/8 @10@x", `{"device":"br1","vlan":10,"container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 @10"}`},
		{"br1 web 1.2.3/24", `{"device":"br1","container":"web","ip":"1.2.3.0/24","ifname":"eth1","command":"br1 -i eth1 web 1.2.3.0/24"}`},
		{"br1 web 10.0.0.1/255.255.0.0", `{"device":"br1","container":"web","ip":"10.0.0.1/16","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/16"}`},
		{"br1 web dhclient:-v+-1+-cf+/etc/x.conf+-H+a+-V+x", `{"device":"br1","container":"web","ip":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"a","dhcp-vendor-class":"x"},"command":"br1 -i eth1 web 'dhcp:-h a -V x'"}`},
		{"br1 web dhclient-f:-6", `{"device":"br1","container":"web","ip6":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"web"},"command":"br1 -a 6 -i eth1 web dhcp"}`},
		{"br1 web 10.0.0.1/8 @10", `{"device":"br1","vlan":10,"container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 web 10.0.0.1/8 @10"}`},
		{"ovsbr0 web 10.0.0.1/8 52:54:00:12:34:56@10", `{"device":"ovsbr0","vlan":10,"container":"web","ip":"10.0.0.1/8","mac":"52:54:00:12:34:56","ifname":"eth1","command":"ovsbr0 -i eth1 web 10.0.0.1/8 52:54:00:12:34:56@10"}`},
		{"eth2 web 10.0.0.1/8 @10", `{"device":"eth2","vlan":10,"container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"eth2 -i eth1 web 10.0.0.1/8 @10"}`},
		{"--direct-phys eth2 -i eth0 web 10.0.0.1/8", `{"device":"eth2","driver":"phys","container":"web","ip":"10.0.0.1/8","ifname":"eth0","command":"phys:eth2 -i eth0 web 10.0.0.1/8"}`},
		{"phys:eth2 -i eth0 web 10.0.0.1/8", `{"device":"eth2","driver":"phys","container":"web","ip":"10.0.0.1/8","ifname":"eth0","command":"phys:eth2 -i eth0 web 10.0.0.1/8"}`},
		{"ipvlan:eth2 web 10.0.0.1/8", `{"device":"eth2","driver":"ipvlan","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"ipvlan:eth2 -i eth1 web 10.0.0.1/8"}`},
		{"mac:AA:0:0:0:0:1 web 10.0.0.1/8", `{"device":"mac:aa:00:00:00:00:01","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"mac:aa:00:00:00:00:01 -i eth1 web 10.0.0.1/8"}`},
		{"dummy web 10.0.0.1/8", `{"device":"dummy","container":"web","ip":"10.0.0.1/8","ifname":"eth1","command":"dummy -i eth1 web 10.0.0.1/8"}`},
		{"br1 netns:/run/netns/a-b 10.0.0.1/8", `{"device":"br1","container":"netns:/run/netns/a-b","ip":"10.0.0.1/8","ifname":"eth1","command":"br1 -i eth1 netns:/run/netns/a-b 10.0.0.1/8"}`},
		{"br1 docker:web dhcp", `{"device":"br1","container":"docker:web","ip":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"web"},"command":"br1 -i eth1 docker:web dhcp"}`},
		{"br1 -a 6 web dhcp", `{"device":"br1","container":"web","ip6":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"web"},"command":"br1 -a 6 -i eth1 web dhcp"}`},
		{"br1 web udhcpc-f:-f+-r+10.0.0.9+-x+hostname:a+-x+0x3d:0102+-V+x", `{"device":"br1","container":"web","ip":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"a","dhcp-option":"0x3d:0102","dhcp-request":"10.0.0.9","dhcp-vendor-class":"x"},"command":"br1 -i eth1 web 'dhcp:-h a -r 10.0.0.9 -V x -x 0x3d:0102'"}`},
		{"br1 web dhclient", `{"device":"br1","container":"web","ip":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"web"},"command":"br1 -i eth1 web dhcp"}`},
		{"br1 web dhcpcd:-x @7", `{"device":"br1","vlan":7,"container":"web","ip":"dhcp","ifname":"eth1","options":{"dhcp-hostname":"web"},"command":"br1 -i eth1 web dhcp @7"}`},
	} {
		cmd, err := parse(split(c.line))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if cmd.verb != connect {
			t.Errorf("%s: verb %d", c.line, cmd.verb)
		}
		if got := canonical(t, cmd.request()); got != canonical(t, json.RawMessage(c.want)) {
			t.Errorf("%s:\ngot  %s\nwant %s", c.line, got, c.want)
		}
	}
}

// split cuts a line at spaces; + stands for one in an argument.
func split(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, "+", " ")
	}
	return words
}

// canonical is JSON with its keys in order.
func canonical(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var any map[string]any
	if err := json.Unmarshal(text, &any); err != nil {
		t.Fatal(err)
	}
	text, _ = json.Marshal(any)
	return string(text)
}

func TestVerbs(t *testing.T) {
	for _, c := range []struct {
		line string
		want command
	}{
		{"--wait", command{verb: wait, ifName: "eth1"}},
		{"--wait -i eth7", command{verb: wait, ifName: "eth7"}},
		{"--wait -i eth7 -l x br1", command{verb: wait, ifName: "eth7"}},
		{"-i eth7 --wait", command{verb: wait, ifName: "eth7"}},
		{"--list", command{verb: list}},
		{"--undo br1 web", command{verb: undo, device: "br1", guest: "web"}},
		{"--undo -i eth2 br1 web", command{verb: undo, device: "br1", guest: "web", ifName: "eth2"}},
		{"--undo br1 -i eth2 web", command{verb: undo, device: "br1", guest: "web", ifName: "eth2"}},
		{"--undo mac:AA:BB:CC:DD:EE:0 web", command{verb: undo, device: "mac:aa:bb:cc:dd:ee:00", guest: "web"}},
	} {
		got, err := parse(split(c.line))
		if err != nil || canonicalText(*got) != canonicalText(c.want) {
			t.Errorf("%s: %+v, %v", c.line, got, err)
		}
	}
	got, err := parse(split("br1 web 10.0.0.1/8 @5 --undo"))
	if err != nil || got.verb != undo || !got.whole || got.ifName != "eth1" || got.String() != "br1 -i eth1 web 10.0.0.1/8 @5" {
		t.Errorf("the same command with --undo: %+v, %v", got, err)
	}
}

func canonicalText(c command) string {
	return strings.Join([]string{string(rune('0' + c.verb)), c.device, c.ifName, c.guest, c.driver, c.alias}, "|")
}

func TestInside(t *testing.T) {
	for _, c := range []struct {
		line, guest, args string
		undone            bool
	}{
		{"route web add 10.0.0.0/8 via 192.168.1.9", "web", "ip route add 10.0.0.0/8 via 192.168.1.9", false},
		{"rule web add from 10.0.0.0/8 table 7", "web", "ip rule add from 10.0.0.0/8 table 7", false},
		{"tc web qdisc add dev eth1 root -i --wait", "web", "tc qdisc add dev eth1 root -i --wait", false},
		{"-a 6 route web show", "web", "ip -6 route show", false},
		{"routes web show", "web", "ip route show", false}, // the script looks at the beginning
		{"rule2 web show", "web", "ip rule show", false},
		{"tc-x web qdisc show -i", "web", "tc qdisc show -i", false},
		{"--undo route web add 10.0.0.0/8 dev eth1", "web", "ip route add 10.0.0.0/8 dev eth1", true},
	} {
		got, err := parse(split(c.line))
		if err != nil || got.verb != inside || got.guest != c.guest || strings.Join(got.args, " ") != c.args || got.undone != c.undone {
			t.Errorf("%s: %+v, %v", c.line, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		line, want string
		stdout     bool
	}{
		{"br1 web 10.0.0.1/0", "10.0.0.1/0: no way would lead to anybody, or to all (10.0.0.1/32 is an address without a subnet)", false},
		{"br1 web 10.0.0.1/0.0.0.0", "10.0.0.1/32 is", false},
		{"br1 web fd00::1/0", "fd00::1/128 is", false},
		{"br1 web 010.0.0.1/24", `"010.0.0.1": want an IP address, without a 0 or 0x before its numbers`, false},
		{"br1 web 0x0a.0.0.1/24", "without a 0 or 0x", false},
		{"br1 web 10.0.0.1/024", "want ADDRESS/BITS", false},
		{"br1 web default/24", `"default": want an IP address`, false},
		{"br1 web 10.0.0.1/24@010.0.0.9", "without a 0 or 0x", false},
		{"br1 web 10.0.0.1/8 00:00:00:00:00:00", "is nobody's", false},
		{"", "Syntax:", true},
		{"br1", "Syntax:", true},
		{"br1 web", "Syntax:", true},
		{"br1 web 10.0.0.1/8 @5 more", "Syntax:", true},
		{"br1 -i", "Syntax:", true},
		{"br1 -i a -i b web 10.0.0.1/8", "Syntax:", true},
		{"--wait --undo br1 web", "Syntax:", true},
		{"--list -i eth1", "Syntax:", true},
		{"route web", "Syntax:", true},
		{"route", "Syntax:", true},
		{"br1 web 10.0.0.1", "The IP address should include a netmask.\nMaybe you meant 10.0.0.1/24 ?", false},
		{"br1 web fd00::1", "Maybe you meant fd00::1/64 ?", false},
		{"br1 web 10.0.0.1/33", "want ADDRESS/BITS", false},
		{"br1 web 10.0.0.1/255.0.255.0", "want ADDRESS/BITS", false},
		{"br1 web dhcpx", "The IP address should include a netmask.\nMaybe you meant dhcpx/24 ?", false},
		{"--foo br1 web 10.0.0.1/8", "I do not know how to setup interface --foo.", false},
		{"--foo", "Syntax:", true},
		{"br1 web dhclient:-r", "not known", false},
		{"br1 web 10.0.0.1/8@fd00::1", "another family", false},
		{"br1 web 10.0.0.1/8@10.0.0.9,10.0.0.2/8@10.0.0.8", "second of its family", false},
		{"br1 -a 6 web 10.0.0.1/8", "-a 6 says otherwise", false},
		{"br1 -a link web 10.0.0.1/8", "want 4, 6, inet or inet6", false},
		{"br1 web ten/8", "want an IP address", false},
		{"br1 web 10.0.0.1/8 01:00:00:00:00:00", "is of a group", false},
		{"br1 web 10.0.0.1/8 52:54", "hardware address", false},
		{"br1 web 10.0.0.1/8 @4095", "want 1 to 4094", false},
		{"br1 web 10.0.0.1/8 @ten", "want 1 to 4094", false},
		{"br1 web 10.0.0.1/8 @010", `VLAN "010": want 1 to 4094, without a 0 before it`, false}, // 8 to ip, 10 to ovs-vsctl
		{"mac:xx web 10.0.0.1/8", "hardware address", false},
		{"br/1 web 10.0.0.1/8", "interface", false},
		{"br1 -i averyverylongname web 10.0.0.1/8", "interface", false},
		{"br1 -l a/b web 10.0.0.1/8", "interface", false},
		{"br1 -l averyverylongname web 10.0.0.1/8", "want 1 to 15 characters", false},
		{"br1 --bogus web 10.0.0.1/8", "option --bogus: not known", false},
		{"--direct-phys ipvlan:eth2 web 10.0.0.1/8", "exclude each other", false},
		{"br1 web dhcp:-Z+x", "option -Z: not known", false},
		{"br1 web dhclient:-x", "not known", false},
		{"br1 web udhcpc:-x+hostname", "want NAME:VALUE", false},
		{"br1 web\nbr2 10.0.0.1/8+\n", "want one line", false},
	} {
		words := split(c.line)
		if strings.Contains(c.line, "\n") {
			words = strings.Split(c.line, " ")
		}
		_, err := parse(words)
		f, ok := errors.AsType[*failure](err)
		if !ok || !strings.Contains(f.text, c.want) || f.stdout != c.stdout {
			t.Errorf("%q: %v", c.line, err)
		}
	}
}

// TestStatus has the exit statuses of refusals: the script ends with that of the ip
// command that fails (iproute2 6.1).
func TestStatus(t *testing.T) {
	for line, want := range map[string]int{
		"br1":                                     1,
		"br1 web 10.0.0.1":                        1,
		"br1 web ten/8":                           1,
		"br1 web 10.0.0.1/8@ten":                  1,
		"br1 web 10.0.0.1/8 52:54":                1,
		"br1 web 10.0.0.1/8 01:00:00:00:00:00":    2,
		"br1 web 10.0.0.1/8 00:00:00:00:00:00":    2,
		"br1 -i averyverylongname web 10.0.0.1/8": 255,
		"br1 -i a/b web 10.0.0.1/8":               255,
		"br1 -l averyverylongname web 10.0.0.1/8": 255,
		"br1 -a foo web 10.0.0.1/8":               255,
		"mac:01:00:00:00:00:00 web 10.0.0.1/8":    1,
	} {
		if got := Run(t.Context(), Console{Out: io.Discard, Err: io.Discard}, split(line)); got != want {
			t.Errorf("%s: exit status %d, want %d", line, got, want)
		}
	}
}

// shell cuts a line as a shell does, which has no quotes but those around words.
func shell(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// FuzzParse checks that no command line is a panic, and that a command's one form
// is the same command.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"br1 web 192.168.1.1/24@192.168.1.254 52:54:00:12:34:56@10", "--direct-phys mac:aa:bb:cc:dd:ee:00 -i eth2 -l x web dhcp:-r 10.0.0.1",
		"-a 6 br1 web fd00::1/64,10.0.0.1/8 U:a@7", "tc web qdisc show", "br1 web dhcp:-h+a+-r+10.0.0.9+-x+0x3d:0102", "--wait -i x", "--undo br1 web", "dummy web 0/0",
	} {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(line, " ", "\x01"), "+", " "))
	}
	f.Fuzz(func(t *testing.T, line string) {
		cmd, err := parse(strings.Split(line, "\x01"))
		if err != nil || cmd.verb != connect || strings.ContainsAny(line, "'\t") {
			return
		}
		again, err := parse(shell(cmd.String()))
		if err != nil {
			t.Fatalf("%q: %v", cmd, err)
		}
		if a, b := canonical(t, cmd.request()), canonical(t, again.request()); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}
