// Package others holds the tests of living with the firewalls of others. Each
// is real, runs on a host of the lab, and is started before Sealane, after it,
// anew, and is taken away. docs/others.md is their prose.
//
//	b 192.0.2.2 ──── lan ──── a 192.0.2.1  sealaned, the firewall
//	  2001:db8::2               2001:db8::1
//	                            ├── app   10.7.0.0/24 fd07::/64: web .2, peer .3
//	                            └── four  10.8.0.0/24: four .2, for IPv6 clients by the daemon's proxy
package others

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

// hosts are the two of a test.
type hosts struct {
	*testing.T
	a, b *lab.Host
}

// newHosts returns the hosts without Sealane. Port 9000 of a is a service of
// its own that its firewall hides.
func newHosts(t *testing.T) *hosts {
	t.Parallel()
	l := lab.New(t)
	h := &hosts{t, l.Host("a"), l.Host("b")}
	h.a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	h.b.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	serve(h, h.a, "-tcp", "9000")
	serve(h, h.b, "-tcp", "8000", "-udp", "8000")
	// What firewalls write in /etc stays in the host.
	h.a.Must("sh", "-c", `mkdir -p /run/etc/up /run/etc/work
		mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
		mount -t tmpfs tmpfs /var/log`)
	return h
}

func serve(t lab.T, h *lab.Host, args ...string) {
	p := h.Start("lab-echo", append([]string{"serve"}, args...)...)
	for end := time.Now().Add(30 * time.Second); !strings.Contains(p.Output(), "ready"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("lab-echo: %s", p.Output())
		}
	}
}

// sealane starts the daemon and the sandboxes.
func (h *hosts) sealane() {
	h.Helper()
	h.a.Daemon()
	h.sh(`set -e
		sealane network create --subnet 10.7.0.0/24 --subnet fd07::/64 app
		sealane network create --subnet 10.8.0.0/24 four
		sealane run -d --name web --network app --ip 10.7.0.2 --ip6 fd07::2 -p 8080:80 -p 5353:53/udp -- lab-echo serve -tcp 80 -udp 53
		sealane run -d --name peer --network app --ip 10.7.0.3 --ip6 fd07::3 -- lab-echo serve -tcp 80
		sealane run -d --name four --network four -p 8081:80 -- lab-echo serve -tcp 80`)
}

// sh runs a script on host a.
func (h *hosts) sh(script string) string {
	h.Helper()
	return h.a.Must("bash", "-c", script)
}

// want are the ways that have to be open.
var want = []struct{ name, host, command string }{
	{"outside to published", "b", "get http://192.0.2.1:8080/"},
	{"outside to published, IPv6", "b", "get http://[2001:db8::1]:8080/"},
	{"outside to published, UDP", "b", "udp 192.0.2.1:5353"},
	{"outside to published, by the proxy", "b", "get http://[2001:db8::1]:8081/"},
	{"host to published", "a", "get http://192.0.2.1:8080/"},
	{"host to published on loopback", "a", "get http://127.0.0.1:8080/"},
	{"host to published on loopback, IPv6", "a", "get http://[::1]:8080/"},
	{"container to outside", "web", "get http://192.0.2.2:8000/"},
	{"container to outside, IPv6", "web", "get http://[2001:db8::2]:8000/"},
	{"container to outside, UDP", "web", "udp 192.0.2.2:8000"},
	{"container to container", "web", "get http://10.7.0.3/"},
	{"container to container, IPv6", "web", "get http://[fd07::3]/"},
	{"container to published", "four", "get http://192.0.2.1:8080/"},
}

// reach says whether a client of lab-echo gets an answer in time.
func (h *hosts) reach(from, command, timeout string) error {
	args := strings.Fields(command)
	args = append([]string{"lab-echo", args[0], "-timeout", timeout}, args[1:]...)
	on := h.a
	switch from {
	case "a":
	case "b":
		on = h.b
	default:
		args = append([]string{"sealane", "exec", from, "--"}, args...)
	}
	if r := on.Run(args[0], args[1:]...); r.Code != 0 {
		return fmt.Errorf("%s", r.Stderr)
	}
	return nil
}

// soon is how long an exception may be away: a second, and what a busy machine
// adds. It is less than until the regular pass, which would find what nobody noticed.
const soon = 15 * time.Second

// open checks that all ways are open, soon after an event, and that what the
// host has for itself is still hidden if it should be.
func (h *hosts) open(after string, hidden bool) {
	h.Helper()
	end := time.Now().Add(soon)
	for _, w := range want {
		err := h.reach(w.host, w.command, "1s")
		for err != nil && time.Now().Before(end) {
			err = h.reach(w.host, w.command, "1s")
		}
		if err != nil {
			h.Errorf("after %s: %s: %v", after, w.name, err)
		}
	}
	if hidden {
		for _, at := range []string{"192.0.2.1", "[2001:db8::1]"} {
			if h.reach("b", "get http://"+at+":9000/", "300ms") == nil {
				h.Errorf("after %s: the host's own service at %s is open", after, at)
			}
		}
	}
	if h.Failed() {
		h.Fatalf("%s\n%s", h.a.DaemonLog(), h.sh("sealane diff; nft list ruleset"))
	}
}

// shut checks that a way is shut, now and after a pass.
func (h *hosts) shut(from, command string) {
	h.Helper()
	if h.reach(from, command, "300ms") == nil {
		h.Errorf("%s reaches %s", from, command)
	}
}

// theirs are the rules of others.
func (h *hosts) theirs() string {
	h.Helper()
	return h.sh(`nft list tables | grep -v ' sealane$' | while read -r t; do nft list $t; done |
		sed 's/counter packets [0-9]* bytes [0-9]*/counter/'`)
}

// without returns rules without our exceptions, which are one line each.
func without(rules string) string {
	var rest strings.Builder
	for line := range strings.Lines(rules) {
		if !strings.Contains(line, ours) {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// ours is in each exception.
const ours = "made by sealane"

// untouched compares the rules of others with what they were.
func (h *hosts) untouched(before string, exceptions int) {
	h.Helper()
	now := h.theirs()
	if rest := without(now); rest != before {
		h.Errorf("the rules of others are\n%s\nand were\n%s", rest, before)
	}
	if n := strings.Count(now, ours); n != exceptions {
		h.Errorf("%d exceptions, want %d\n%s", n, exceptions, now)
	}
}

// exceptions checks what `network inspect` says was added, by chain.
func (h *hosts) exceptions(chains ...string) {
	h.Helper()
	const rule = ": meta mark and 0x10000000 == 0x10000000 accept"
	var got, all string
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = h.sh(`sealane network inspect app | grep -o '"[a-z0-9]* [a-z]* [^"]*accept"' | tr -d '"'`)
		all = ""
		for _, c := range chains {
			all += c + rule + "\n"
		}
		if got == all {
			return
		}
	}
	h.Errorf("exceptions are\n%s\nwant\n%s", got, all)
}

// quiet checks that nobody took it for a fight, and that teardown leaves the
// rules of others as they were.
func (h *hosts) quiet(before string) {
	h.Helper()
	if s := h.sh("sealane network inspect app | grep '\"state\"'"); !strings.Contains(s, "ready") {
		h.Errorf("the network is %s\n%s", s, h.a.DaemonLog())
	}
	h.a.Stop()
	h.sh("sealane daemon --teardown")
	h.untouched(before, 0)
	if left := h.sh("nft list tables | grep sealane; true"); left != "" {
		h.Errorf("left: %s", left)
	}
}
