package others

import (
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// ufw's own words. It asks whether ssh connections may be cut, and waits for
// a lock in /run.
const ufwSetup = `ufw --force reset >/dev/null; ufw default deny incoming; ufw default deny routed; ufw allow 22/tcp`

var ufwChains = []string{"ip filter ufw-before-forward", "ip filter ufw-before-input", "ip6 filter ufw6-before-forward", "ip6 filter ufw6-before-input"}

func TestUfw(t *testing.T) {
	lab.Needs(t, "ufw", "iptables")
	h := newHosts(t)
	h.sh(ufwSetup + "; ufw --force enable")
	before := h.theirs()
	h.sealane()
	h.open("start", true)
	h.untouched(before, 4)
	h.exceptions(ufwChains...)

	h.sh("ufw route deny proto tcp to 10.7.0.2 port 80")
	h.open2shut("ufw route deny", "get http://192.0.2.1:8080/", "get http://[2001:db8::1]:8080/")
	h.sh("ufw route delete deny proto tcp to 10.7.0.2 port 80")
	h.open("ufw route delete deny", true)

	h.sh("ufw reload")
	h.open("ufw reload", true)
	h.exceptions(ufwChains...)

	// ufw does not miss what others delete; the way to its chains is gone.
	h.sh("iptables -F FORWARD")
	h.open("iptables -F FORWARD", true)
	h.exceptions(append([]string{"ip filter FORWARD"}, ufwChains[1:]...)...)
	h.sh("ufw disable")
	h.open("ufw disable", false)
	h.sh("nft flush ruleset")
	h.open("nft flush ruleset", false)
	h.exceptions()
	h.sh("ufw --force enable")
	h.open("ufw enable", true)
	h.exceptions(ufwChains...)
	h.untouched(before, 4)
	h.quiet(before)
}

// TestRestored: who puts back the rules that there were before us takes our exceptions with
// what was theirs.
func TestRestored(t *testing.T) {
	lab.Needs(t, "ufw")
	h := newHosts(t)
	h.sh(ufwSetup + "; ufw --force enable; iptables-save > /run/before; ip6tables-save > /run/before6")
	h.sealane()
	h.open("start", true)
	h.sh("iptables-restore < /run/before; ip6tables-restore < /run/before6")
	h.open("iptables-restore", true)
	h.exceptions(ufwChains...)
}

// open2shut checks that the outside cannot go these ways, and others can.
func (h *hosts) open2shut(after string, commands ...string) {
	h.Helper()
	h.shut("b", commands[0])
	if err := h.reach("web", "get http://192.0.2.2:8000/", "1s"); err != nil {
		h.Errorf("after %s: container to outside: %v", after, err)
	}
	if err := h.reach("b", commands[1], "1s"); err != nil {
		h.Errorf("after %s: what is not denied: %v", after, err)
	}
}

const firewalldStart = `set -e
	test -S /run/dbus/system_bus_socket || { mkdir -p /run/dbus; dbus-daemon --system --fork --nopidfile; }
	firewalld --nofork --nopid >/run/firewalld.log 2>&1 &
	echo $! >/run/firewalld.pid
	for i in $(seq 100); do firewall-cmd --state >/dev/null 2>&1 && exit; sleep 0.1; done
	cat /run/firewalld.log >&2; exit 1`

const firewalldStop = `pid=$(cat /run/firewalld.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done`

var firewalldChains = []string{"inet firewalld filter_FORWARD", "inet firewalld filter_INPUT"}

// TestFirewalld: also, as Docker's TestFirewalldReloadNoZombies, what was taken back stays
// away when firewalld loads its rules again.
func TestFirewalld(t *testing.T) {
	lab.Needs(t, "firewalld", "dbus-daemon")
	h := newHosts(t)
	h.sh(firewalldStart)
	before := h.theirs()
	h.sealane()
	h.open("start", true)
	h.untouched(before, 2)
	h.exceptions(firewalldChains...)
	h.sh("firewall-cmd --reload")
	h.open("firewall-cmd --reload", true)
	h.sh("firewall-cmd --complete-reload")
	h.open("firewall-cmd --complete-reload", true)
	h.sh("firewall-cmd --panic-on")
	for _, from := range []string{"b", "web"} { // nobody is an exception from that
		h.shut(from, "get http://192.0.2.1:8080/")
		h.shut(from, "get http://[2001:db8::1]:8080/")
	}
	h.shut("web", "get http://192.0.2.2:8000/")
	h.sh("firewall-cmd --panic-off")
	h.open("firewall-cmd --panic-off", true)
	h.exceptions(firewalldChains...)
	h.sh("sealane network create --subnet 10.99.0.0/24 gone && sealane port add web 8099:80 && sealane port rm web 8099:80 && sealane network rm gone && firewall-cmd --reload")
	h.open("a reload after a removal", true)
	if back := h.sh("nft list ruleset | grep -e 8099 -e 10.99.0; true"); back != "" {
		t.Errorf("after a reload there is again:\n%s", back)
	}
	h.sh(firewalldStop)
	h.open("stop", false)
	h.exceptions()
	h.sh(firewalldStart)
	h.open("start after Sealane", true)
	h.sh("nft flush ruleset")
	h.open("nft flush ruleset", false)
	h.sh(firewalldStop + "; " + firewalldStart)
	h.open("restart", true)
	h.exceptions(firewalldChains...)
	h.untouched(before, 2)
	h.quiet(before)
}

// hand is a firewall that somebody wrote by hand: what it does not know it
// drops, and what it says no to stays so.
const hand = `nft 'table inet mine {
	set blocked { type ipv4_addr; }
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; ip saddr @blocked drop; }
	chain input { type filter hook input priority 0; policy accept; ct state established,related accept; iifname lo accept
		meta l4proto { icmp, ipv6-icmp } accept; reject; }
}'`

func TestHandmade(t *testing.T) {
	h := newHosts(t)
	h.sealane()
	h.sh(hand)
	h.open("start", true)
	h.exceptions("inet mine forward", "inet mine input")
	h.sh("nft add element inet mine blocked '{ 192.0.2.2 }'")
	h.shut("b", "get http://192.0.2.1:8080/")
	h.sh("nft delete element inet mine blocked '{ 192.0.2.2 }'")
	h.sh("nft flush chain inet mine forward")
	h.open("nft flush chain", true)
	h.sh("nft delete table inet mine")
	h.sh("sleep 0.5")
	before := h.theirs()
	h.sh("nft 'table inet block { chain forward { type filter hook forward priority 0; ip saddr 192.0.2.2 tcp dport 80 drop; }; }'")
	h.shut("b", "get http://192.0.2.1:8080/")
	h.exceptions() // it lets pass what it does not know, so it means what it drops
	h.shut("b", "get http://192.0.2.1:8080/")
	h.sh("nft delete table inet block")
	h.sh("nft 'table inet early { chain forward { type filter hook forward priority -20; policy drop; }; }'")
	h.sh(`for i in $(seq 100); do sealane network inspect app | grep -q '"conflict"' && break; sleep 0.03; done
		sealane network inspect app | grep 'chain forward of table inet early drops'`)
	h.sh("nft delete table inet early; sleep 0.5")
	h.quiet(before)
}

// TestFight: somebody who takes our rule away again and again wins time, and
// it is said.
func TestFight(t *testing.T) {
	h := newHosts(t)
	h.sealane()
	h.sh(hand)
	h.open("start", true)
	h.sh(`for i in $(seq 40); do
		handle=$(nft -a list chain inet mine forward | sed -n 's/.*made by sealane.*handle //p')
		test -n "$handle" && nft delete rule inet mine forward handle $handle
		sealane network inspect app | grep -q '"conflict"' && break; sleep 0.2; done
		sealane network inspect app | grep 'keeps removing'`)
}
