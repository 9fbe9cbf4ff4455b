package lab

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// serveEcho starts lab-echo on a host and waits until it listens.
func serveEcho(t *testing.T, h *Host, args ...string) *Process {
	t.Helper()
	p := h.Start("lab-echo", append([]string{"serve"}, args...)...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		t.Fatalf("echo: %v\n%s", err, p.Output())
	}
	return p
}

// a eth0 192.0.2.1 ── lan ── eth0 192.0.2.2 b
func pair(t *testing.T) (a, b *Host) {
	l := New(t)
	a, b = l.Host("a"), l.Host("b")
	a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	b.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	return a, b
}

func TestHostsReachEachOther(t *testing.T) {
	a, b := pair(t)
	serveEcho(t, b, "-tcp", "80,8000-8002", "-udp", "53")
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		a.Must("lab-echo", "ping", addr)
		client := "client 192.0.2.1\n"
		if strings.Contains(addr, ":") {
			client = "client 2001:db8::1\n"
		}
		for _, got := range []string{
			a.Must("lab-echo", "get", "http://"+net.JoinHostPort(addr, "80")),
			a.Must("lab-echo", "get", "http://"+net.JoinHostPort(addr, "8002")),
			a.Must("lab-echo", "udp", net.JoinHostPort(addr, "53")),
		} {
			if !strings.Contains(got, client) || !strings.Contains(got, "host b\n") {
				t.Errorf("%s answered\n%swant %shost b", addr, got, client)
			}
		}
	}
	if got := a.Must("lab-echo", "get", "http://192.0.2.2/bytes/100000"); len(got) != 100000 {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestCutAndMend(t *testing.T) {
	a, b := pair(t)
	a.Must("lab-echo", "ping", "192.0.2.2")
	b.Cut("eth0")
	if r := a.Run("lab-echo", "ping", "-timeout", "200ms", "192.0.2.2"); r.Code != 1 {
		t.Errorf("ping through a pulled cable: exit %d", r.Code)
	}
	b.Mend("eth0")
	a.Must("lab-echo", "ping", "192.0.2.2")
}

func TestStreamNoticesABrokenConnection(t *testing.T) {
	a, b := pair(t)
	server := serveEcho(t, b, "-tcp", "80")
	p := a.Start("lab-echo", "stream", "-for", "10s", "http://192.0.2.2")
	time.Sleep(50 * time.Millisecond)
	server.Signal(syscall.SIGKILL)
	if code := p.Wait(); code != 1 {
		t.Errorf("exit %d\n%s", code, p.Output())
	}
}

// A stream that does not get to run in time is no broken connection.
func TestStreamOutlivesStops(t *testing.T) {
	a, b := pair(t)
	serveEcho(t, b, "-tcp", "80")
	p := a.Start("lab-echo", "stream", "-for", "30s", "-every", "0s", "http://192.0.2.2")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		p.Signal(syscall.SIGSTOP)
		time.Sleep(70 * time.Millisecond)
		p.Signal(syscall.SIGCONT)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 || strings.Contains(p.Output(), "answers 0\n") {
		t.Errorf("exit %d\n%s", code, p.Output())
	}
}

func TestHostHasAViewOfItsOwn(t *testing.T) {
	h := New(t).Host("alpha")
	for want, cmd := range map[string]string{
		"alpha":            "hostname",
		"lo":               "ls /sys/class/net",
		"":                 "ls /run /var/lib | grep -v :",
		"0":                "cat /proc/sys/net/ipv4/ip_forward",
		argHost + " alpha": "tr '\\0' ' ' < /proc/1/cmdline",
	} {
		if got := strings.TrimSpace(h.Run("sh", "-c", cmd).Stdout); got != want {
			t.Errorf("%s: %q, want %q", cmd, got, want)
		}
	}
	// The process sees itself: its pid is one of the host's own /proc.
	h.Must("sh", "-c", "test -d /proc/$$ && readlink /proc/self/ns/net")
}

func TestForeignNamespace(t *testing.T) {
	h := New(t).Host("a")
	path := h.NetNS("c1")
	if got := h.Must("nsenter", "--net="+path, "ls", "/proc/sys/net/ipv4/conf"); !strings.Contains(got, "lo") {
		t.Errorf("conf: %s", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is on the machine too", path)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	h := New(t).Host("a")
	pid := strings.TrimSpace(h.Must("sh", "-c", "sleep 0.05 >/dev/null & echo $!"))
	h.Must("sh", "-c", "for i in $(seq 100); do test -d /proc/"+pid+" || exit 0; sleep 0.05; done; exit 1")
}

func TestRunDoesNotWaitForWhatACommandLeavesBehind(t *testing.T) {
	h := New(t).Host("a")
	start := time.Now()
	if got := h.Must("sh", "-c", "sleep 30 & echo done"); got != "done\n" || time.Since(start) > 5*time.Second {
		t.Errorf("got %q after %v", got, time.Since(start))
	}
}

func TestExitStatus(t *testing.T) {
	h := New(t).Host("a")
	if r := h.Run("sh", "-c", "echo out; echo err >&2; exit 7"); r != (Result{"out\n", "err\n", 7}) {
		t.Errorf("got %+v", r)
	}
}

func TestInNetNS(t *testing.T) {
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	InNetNS(t, func() {
		inside, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil || inside == before {
			t.Errorf("inside: %s, %v", inside, err)
		}
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Flags&net.FlagUp == 0 {
			t.Errorf("links: %v, %v", links, err)
		}
	})
	if after, _ := os.Readlink("/proc/self/ns/net"); after != before {
		t.Errorf("afterwards in %s, before in %s", after, before)
	}
}

func TestSaysReady(t *testing.T) {
	for line, want := range map[string]bool{
		`ready`: true,
		`time=2026-01-01T00:00:00Z level=INFO msg=ready socket=/run/sealane/sealane.sock`: true,
		`{"level":"INFO","msg":"ready"}`: true,
		`level=INFO msg="not ready yet"`: false,
		`level=INFO msg=readying`:        false,
		`ready or not`:                   false,
	} {
		if got := saysReady(line); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
