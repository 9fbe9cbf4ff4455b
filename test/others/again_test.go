package others

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// TestFlushAgain: several flushes in a row are no quarrel yet, so everything is
// back soon after the last.
func TestFlushAgain(t *testing.T) {
	h := newHosts(t)
	h.sealane()
	h.open("start", false)
	for range 3 {
		h.sh("for i in $(seq 5); do nft flush ruleset; sleep 0.02; done")
		h.open("five times nft flush ruleset", false)
	}
}

// TestFlushMeanwhile: who publishes while somebody flushes gets what he was told he has.
func TestFlushMeanwhile(t *testing.T) {
	h := newHosts(t)
	h.sealane()
	h.open("start", false)
	h.sh(`for i in $(seq 10 29); do
		sealane port add web 90$i:80 & nft flush ruleset; wait $! || exit 1
		test $((i % 3)) != 0 || { sealane port rm web 90$i:80 & nft flush ruleset; wait $! || exit 1; }
	done`)
	h.open("flushes while ports come and go", false)
	for i := 10; i < 30; i++ {
		if ask := fmt.Sprintf("get http://192.0.2.1:90%d/", i); i%3 == 0 {
			h.shut("b", ask)
		} else if err := h.reach("b", ask, "2s"); err != nil {
			t.Errorf("port 90%d: %v", i, err)
		}
	}
	if d := h.sh("sealane diff"); d != "" {
		t.Errorf("not as intended:\n%s", d)
	}
}

// TestReloadAgain: reloads are no quarrel, however many.
func TestReloadAgain(t *testing.T) {
	lab.Needs(t, "firewalld", "dbus-daemon")
	h := newHosts(t)
	h.sealane()
	h.sh(firewalldStart)
	for range 4 {
		h.sh("firewall-cmd --reload; firewall-cmd --reload")
		h.open("two times firewall-cmd --reload", true)
	}
	h.exceptions(firewalldChains...)
	if s := h.sh("sealane network inspect app | grep '\"state\"'"); !strings.Contains(s, "ready") {
		t.Errorf("the network is %s\n%s", s, h.a.DaemonLog())
	}
}

// TestDockerMeanwhile: dockerd starts anew while no daemon of ours runs, which
// then finds things as they are.
func TestDockerMeanwhile(t *testing.T) {
	lab.Needs(t, "dockerd", "iptables")
	h := newHosts(t)
	x := h.docker()
	h.sealane()
	h.open("start", false)
	h.a.Kill9()
	x.stop()
	h.sh("iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X; true")
	x.start()
	x.run()
	h.a.Restart()
	h.open("start after Docker's", false)
	x.works()
	h.exceptions("ip filter DOCKER-USER")
	h.a.Kill9()
	x.stop()
	h.sh("nft flush ruleset")
	h.a.Restart()
	h.open("start after a flush", false)
	x.start()
	x.run()
	h.sh("iptables -P FORWARD DROP")
	h.open("Docker's start after a flush", false)
	x.works()
}

// TestForeignMark: the mark that lets packets pass others' firewalls is given
// by Sealane alone. What a container or a host marks stays with it.
func TestForeignMark(t *testing.T) {
	h := newHosts(t)
	h.sealane()
	h.sh(hand)
	h.open("start", true)
	const mark = `nft 'table inet bold { chain output { type route hook output priority 0; meta mark set 0x10000000; }; }'`
	h.sh("sealane exec web -- " + mark)
	h.b.Must("sh", "-c", mark)
	for _, from := range []string{"web", "b"} {
		h.shut(from, "get http://192.0.2.1:9000/")
		h.shut(from, "get http://[2001:db8::1]:9000/")
	}
	h.shut("web", "get http://10.7.0.1:9000/")
	h.shut("b", "get http://10.7.0.3/")
	h.open("marks of others", true)
	// The rule is there, and is what would let it pass.
	h.sh("nft 'table inet bold { chain prerouting { type filter hook prerouting priority 0; tcp dport 9000 meta mark set 0x10000000; }; }'")
	if err := h.reach("b", "get http://192.0.2.1:9000/", "1s"); err != nil {
		t.Errorf("a mark of the host's own: %v", err)
	}
}
