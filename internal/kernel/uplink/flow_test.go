package uplink

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// TestFlowsLive keeps connections busy and counts echo requests, one every 10 ms,
// that nobody answers, while the NIC goes under a bridge and comes back. None is lost. How long one is on
// its way says what else the machine does: so does the connection past the host.
func TestFlowsLive(t *testing.T) {
	a, gw, peer := world(t)
	script(a, "ip route add default via 192.0.2.254; sysctl -qw net.ipv4.conf.all.rp_filter=1")
	listen(t, a)
	listen(t, peer)
	for _, moved := range []struct {
		what string
		do   func() (Report, error)
	}{
		{"attach", func() (Report, error) {
			return attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true, Timeout: DefaultTimeout})
		}},
		{"detach", func() (Report, error) { return detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}) }},
	} {
		flows := map[string]*lab.Process{
			"into the host, IPv4":   gw.Start("lab-echo", "stream", "-for", "1m", "-every", "1ms", "http://192.0.2.1"),
			"into the host, IPv6":   gw.Start("lab-echo", "stream", "-for", "1m", "-every", "1ms", "http://[2001:db8::1]"),
			"out of the host, IPv4": a.Start("lab-echo", "stream", "-for", "1m", "-every", "1ms", "http://192.0.2.9"),
			"out of the host, IPv6": a.Start("lab-echo", "stream", "-for", "1m", "-every", "1ms", "http://[2001:db8::9]"),
			"past the host":         gw.Start("lab-echo", "stream", "-for", "1m", "-every", "1ms", "http://192.0.2.9"),
		}
		ping := gw.Start("lab-echo", "pings", "-for", "4s", "-every", "10ms", "192.0.2.1")
		time.Sleep(time.Second)
		before := lost(a, gw, peer)
		began := time.Now()
		if _, err := moved.do(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		time.Sleep(later)
		n := lost(a, gw, peer) - before
		for _, p := range flows {
			p.Signal(syscall.SIGTERM)
		}
		for name, p := range flows {
			if code := p.Wait(); code != 0 {
				t.Errorf("%s, %s: exit %d\n%s", moved.what, name, code, p.Output())
			}
			t.Logf("%s in %v: %s: %s", moved.what, took.Round(time.Millisecond), name, strings.ReplaceAll(p.Output(), "\n", " "))
		}
		if n > 0 {
			t.Errorf("%s: %d segments were lost", moved.what, n)
		}
		ping.Wait()
		if !strings.Contains(ping.Output(), "lost 0\n") {
			t.Errorf("%s: echo requests: %s", moved.what, ping.Output())
		}
		t.Logf("%s: pings: %s", moved.what, strings.ReplaceAll(ping.Output(), "\n", " "))
	}
}

// later is when what was lost has been sent again, and has come twice if it was not.
const later = time.Second

// lost counts the segments that hosts have sent again and that were not there already:
// of those, which a busy machine makes, the other end tells (RFC 2883).
func lost(hosts ...*lab.Host) (n int) {
	for _, h := range hosts {
		n += counter(h, "snmp", "Tcp", "RetransSegs") - counter(h, "netstat", "TcpExt", "TCPDSACKOldSent") - counter(h, "netstat", "TcpExt", "TCPDSACKOfoSent")
	}
	return n
}

// counter reads one of a file of /proc/net that has a line of names above each line of
// numbers.
func counter(h *lab.Host, file, group, name string) int {
	var names []string
	for line := range strings.Lines(h.Must("cat", "/proc/net/"+file)) {
		switch f := strings.Fields(line); {
		case f[0] != group+":":
		case names == nil:
			names = f
		default:
			if i := slices.Index(names, name); i > 0 {
				n, _ := strconv.Atoi(f[i])
				return n
			}
		}
	}
	return 0
}

// listen starts a server on a host, by a command that runs others if there is one.
func listen(t *testing.T, h *lab.Host, by ...string) {
	t.Helper()
	args := append(by, "lab-echo", "serve", "-tcp", "80")
	p := h.Start(args[0], args[1:]...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		t.Fatal(err)
	}
}
