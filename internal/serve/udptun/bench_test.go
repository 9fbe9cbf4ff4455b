package udptun

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// Names of the test binary as what runs at both ends of a measurement.
const (
	argSink   = "udptun-sink"
	argSource = "udptun-source"
	argAsk    = "udptun-ask"
)

const (
	sinkPort = "8000" // takes all
	echoPort = "8001" // gives back byte by byte
)

// sinkMain serves the other two.
func sinkMain([]string) error {
	for port, serve := range map[string]func(net.Conn){
		sinkPort: func(c net.Conn) {
			io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		},
		echoPort: func(c net.Conn) { io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 16)) },
	} {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go serve(c)
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// sourceMain sends for a while and prints Gbit/s.
func sourceMain(args []string) error {
	d, c, err := connect(args, sinkPort)
	if err != nil {
		return err
	}
	b := make([]byte, 256<<10)
	sent, start := 0, time.Now()
	for time.Since(start) < d {
		n, err := c.Write(b)
		if sent += n; err != nil {
			return err
		}
	}
	fmt.Println(float64(sent) * 8 / 1e9 / time.Since(start).Seconds())
	return nil
}

// askMain asks and waits for the answer for a while, and prints µs per question.
func askMain(args []string) error {
	d, c, err := connect(args, echoPort)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	var took []time.Duration
	for start := time.Now(); time.Since(start) < d; {
		asked := time.Now()
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		took = append(took, time.Since(asked))
	}
	slices.Sort(took)
	fmt.Println(float64(took[len(took)/2].Nanoseconds()) / 1e3)
	return nil
}

func connect(args []string, port string) (time.Duration, net.Conn, error) {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return 0, nil, err
	}
	c, err := net.Dial("tcp", net.JoinHostPort(args[1], port))
	return d, c, err
}

// self is this binary under another name.
func self(args ...string) *exec.Cmd { return &exec.Cmd{Path: executable(), Args: args} }

func executable() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// BenchmarkPaths measures a TCP stream and round trips between two hosts, in
// turns through nothing, the tunnel and kernel vxlan.
//
//	go test -run '^$' -bench Paths -benchtime 5x ./internal/serve/udptun
func BenchmarkPaths(b *testing.B) {
	w := newWorld(b)
	for i, e := range []*end{w.a, w.b} {
		e.vxlan(i+1, 2-i)
		other := []*end{w.b, w.a}[i]
		e.spawn(b, argTunnel, "1", e.local, e.subnet[0].String(), other.subnet[0].String()+"="+other.local)
	}
	w.b.spawn(b, argSink)
	paths := []struct{ name, addr string }{{"plain", w.b.local}, {"tunnel", w.b.addr(0)}, {"vxlan", "10.6.0.2"}}
	got := map[string][]float64{}
	for b.Loop() {
		for _, p := range paths {
			got[p.name+"-Gbit/s"] = append(got[p.name+"-Gbit/s"], w.a.number(b, argSource, "1s", p.addr))
			got[p.name+"-µs"] = append(got[p.name+"-µs"], w.a.number(b, argAsk, "300ms", p.addr))
		}
	}
	b.ReportMetric(0, "ns/op")
	ratios := func(a, b string) (out []float64) {
		for i := range got[a] {
			out = append(out, got[a][i]/got[b][i])
		}
		return out
	}
	for name, values := range got {
		b.ReportMetric(median(values), name)
	}
	b.ReportMetric(median(ratios("tunnel-Gbit/s", "plain-Gbit/s")), "stream/plain")
	b.ReportMetric(median(ratios("tunnel-µs", "vxlan-µs")), "rtt/vxlan")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// vxlan adds a device as Flannel's vxlan backend has one.
func (e *end) vxlan(n, peer int) {
	mac := func(n int) string { return fmt.Sprintf("02:00:00:00:06:%02x", n) }
	e.Must("ip", "link", "add", "vx", "address", mac(n), "mtu", "1450", "type", "vxlan", "id", "1", "dstport", "8472", "local", e.local, "dev", "eth0", "nolearning")
	e.Must("ip", "addr", "add", fmt.Sprintf("10.6.0.%d/24", n), "dev", "vx")
	e.Must("ip", "link", "set", "vx", "up")
	e.Must("ip", "neigh", "add", fmt.Sprintf("10.6.0.%d", peer), "lladdr", mac(peer), "dev", "vx", "nud", "permanent")
	e.Must("bridge", "fdb", "add", mac(peer), "dev", "vx", "dst", fmt.Sprintf("192.0.2.%d", peer))
}

// spawn starts this binary on a host and waits until it is ready.
func (e *end) spawn(t testing.TB, args ...string) *lab.Process {
	t.Helper()
	cmd := self(args...)
	if p := os.Getenv("UDPTUN_PROFILE"); p != "" {
		cmd.Env = append(os.Environ(), "UDPTUN_PROFILE="+p+"-"+e.Name)
	}
	p, err := e.StartCmd(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, p.Output())
	}
	t.Cleanup(func() {
		p.Signal(os.Interrupt)
		p.Wait()
	})
	return p
}

// number runs this binary on a host and reads what it prints.
func (e *end) number(t testing.TB, args ...string) (n float64) {
	t.Helper()
	r, err := e.RunCmd(self(args...))
	if err == nil && r.Code == 0 {
		_, err = fmt.Sscan(strings.TrimSpace(r.Stdout), &n)
	}
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: %v %+v", args, err, r)
	}
	return n
}
