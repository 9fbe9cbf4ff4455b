package model

import (
	"strings"
	"testing"
)

func TestPlugIsTheSameByAnyNameOfItsContainer(t *testing.T) {
	p := Plug{Device: "br1", Command: "br1 -a 6 -i eth1 web 'dhcp:-h a -r fd00::9' @7"}
	for command, want := range map[string]bool{
		p.Command: true,
		"br1 -a 6 -i eth1 docker:web 'dhcp:-h a -r fd00::9' @7": true,
		"br1 -a 6 -i eth1 web 'dhcp:-h a -r fd00::9' @8":        false,
		"br1 -a 6 -i eth2 web 'dhcp:-h a -r fd00::9' @7":        false,
		"br2 -a 6 -i eth1 web 'dhcp:-h a -r fd00::9' @7":        false,
		"br1 -i eth1 web 'dhcp:-h a -r fd00::9' @7":             false,
		"br1 -a 6 -i eth1 web dhcp @7":                          false,
		"":                                                      false, "br1": false, "br1 -a": false,
	} {
		if got := p.Same(command); got != want {
			t.Errorf("%q: the same: %v", command, got)
		}
	}
}

func TestCommandsHaveTheNameOfToday(t *testing.T) {
	guest := &Sandbox{Name: "web1", Guest: &Guest{Runtime: RuntimeDocker, Name: "web1", ID: "ab12"}}
	own := &Sandbox{Name: "box"}
	for _, c := range []struct {
		sb            *Sandbox
		command, want string
	}{
		{guest, "br1 -i eth1 web 0/0", "br1 -i eth1 docker:web1 0/0"}, // as it was called once
		{guest, "br1 -i eth1 docker:ab 0/0", "br1 -i eth1 docker:web1 0/0"},
		{guest, "br1 -i eth1 web1 0/0", "br1 -i eth1 web1 0/0"},
		{own, "br1 -i eth1 box 0/0", "br1 -i eth1 box 0/0"},
		{own, "br1 -i eth1 old 0/0 @7", "br1 -i eth1 box 0/0 @7"},
		{guest, "br1", "br1"},
	} {
		if got := (Plug{Command: c.command}).For(c.sb); got != c.want {
			t.Errorf("%s: %s, want %s", c.command, got, c.want)
		}
	}
	for chore, want := range map[string]string{
		"ip route add 10.0.0.0/8 dev eth1":    "route docker:web1 add 10.0.0.0/8 dev eth1",
		"ip -6 rule add table 7":              "-a 6 rule docker:web1 add table 7",
		"tc qdisc add dev eth1 root pfifo":    "tc docker:web1 qdisc add dev eth1 root pfifo",
		"ip route add 10.0.0.0/8 proto it's;": `route docker:web1 add 10.0.0.0/8 proto 'it'\''s;'`,
	} {
		if got := Chore(strings.Fields(chore)).Command(guest); got != want {
			t.Errorf("%s: %s, want %s", chore, got, want)
		}
	}
}
