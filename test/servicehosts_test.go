package script

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/lab"
)

// shop is the three members of a cluster, with a service that has a backend on each, and
// a client on each.
//
//	a 192.0.2.1 web-a 10.1.0.11, client-a 10.1.0.21 ─┐
//	b 192.0.2.2 web-b 10.1.0.12, client-b 10.1.0.22 ─┼─ lan
//	c 192.0.2.3 web-c 10.1.0.13, client-c 10.1.0.23 ─┘
type shop struct {
	*testing.T
	lab   *lab.Lab
	hosts []*lab.Host
	vip   string
	doors map[string][]string // the command that enters a client, by its host
}

// lease is how long a host counts as alive that is not heard of; slack is what a busy
// machine may add to that, and to what else is to be quick.
const (
	lease = overlay.TTL
	slack = 10 * time.Second
)

// unhurried is between two requests of each client. More of them were more than a busy
// machine can do, and what it cannot do in time counts as failed.
const unhurried = 50 * time.Millisecond

// newShop returns one where each client reaches each backend.
func newShop(t *testing.T) *shop {
	lab.Needs(t, "nsenter")
	l := lab.New(t)
	s := &shop{T: t, lab: l, doors: map[string][]string{}}
	for i, name := range []string{"a", "b", "c"} {
		h := l.Host(name)
		h.Plug(l.Switch("lan"), "eth0", fmt.Sprintf("192.0.2.%d/24", i+1))
		h.Daemon("--node-name", name, "--uplink", "eth0")
		s.hosts = append(s.hosts, h)
	}
	join := s.hosts[0].Must("sealane", "cluster", "init")
	for _, h := range s.hosts[1:] {
		h.Must("sh", "-c", join)
	}
	s.eventually("all three vote", time.Minute, func() bool {
		return strings.Count(s.hosts[0].Run("sealane", "cluster", "status", "--format", "{{range .Members}}{{.Voting}} {{end}}").Stdout, "true") == 3
	})
	s.hosts[0].Must("sealane", "network", "create", "-d", "overlay", "--subnet", "10.1.0.0/24", "--ip-range", "10.1.0.128/25", "app")
	s.hosts[0].Must("sealane", "service", "create", "--name", "web", "--network", "app", "--port", "80")
	s.vip = strings.TrimSpace(s.hosts[0].Must("sealane", "service", "inspect", "--format", "{{index .VIPs 0}}", "web"))
	for i, h := range s.hosts {
		s.eventually(h.Name+" knows the network", time.Minute, func() bool { return h.Run("sealane", "network", "inspect", "app").Code == 0 })
		h.Must("sealane", "run", "--name", "client-"+h.Name, "--network", fmt.Sprintf("name=app,ip=10.1.0.2%d", i+1))
		s.doors[h.Name] = []string{"nsenter", "--net=" + strings.TrimSpace(h.Must("sealane", "inspect", "--format", "{{.NetNS}}", "client-"+h.Name))}
		s.open(h, "web-"+h.Name, s.addr(h))
	}
	s.all("ready", "web-a", "web-b", "web-c")
	for _, h := range s.hosts {
		for _, far := range s.hosts {
			s.eventually("the client of "+h.Name+" reaches web-"+far.Name, time.Minute, func() bool { return s.ask(h, s.addr(far)) == "web-"+far.Name })
		}
	}
	return s
}

// outside is a machine beside the hosts that is none of the cluster's.
func (s *shop) outside(address string) *lab.Host {
	h := s.lab.Host("x")
	h.Plug(s.lab.Switch("lan"), "eth0", address)
	s.doors[h.Name] = []string{"env", "--"} // which enters nothing
	return h
}

// addr is the address of a host's backend.
func (s *shop) addr(h *lab.Host) string { return fmt.Sprintf("10.1.0.1%d", s.nth(h)+1) }

func (s *shop) nth(h *lab.Host) int { return slices.Index(s.hosts, h) }

// others are the hosts but one.
func (s *shop) others(h *lab.Host) []*lab.Host {
	return slices.DeleteFunc(slices.Clone(s.hosts), func(o *lab.Host) bool { return o == h })
}

// open starts a server, and makes it a backend once it serves: nobody is sent to one
// that does not listen yet.
func (s *shop) open(h *lab.Host, name, addr string) {
	s.Helper()
	h.Must("sealane", "run", "-d", "--name", name, "--", "lab-echo", "serve", "-tcp", "80", "-name", name)
	s.eventually(name+" serves", time.Minute, func() bool {
		return h.Run("sealane", "exec", name, "--", "lab-echo", "get", "http://127.0.0.1/").Code == 0
	})
	s.admit(h, name, addr)
}

// admit makes a server a backend; "" is any address.
func (s *shop) admit(h *lab.Host, name, addr string) {
	s.Helper()
	args := []string{"network", "connect", "-o", "service=web"}
	if addr != "" {
		args = append(args, "--ip", addr)
	}
	args = append(args, "app", name) // an address that another host had rests for a minute
	s.eventually(name+" is on the network", 2*overlay.Rest, func() bool { return h.Run("sealane", args...).Code == 0 })
}

// all waits until all hosts say that backends are in a state; "" is that they are none.
func (s *shop) all(state string, names ...string) {
	s.Helper()
	s.say(s.hosts, state, names...)
}

// say waits until some hosts say that of backends.
func (s *shop) say(hosts []*lab.Host, state string, names ...string) {
	s.Helper()
	for _, h := range hosts {
		s.eventually(fmt.Sprintf("%s says that %v are %q", h.Name, names, state), time.Minute, func() bool {
			is := s.states(h)
			return !slices.ContainsFunc(names, func(n string) bool { return is[n] != state })
		})
	}
}

// states is what a host says of the backends, by their names.
func (s *shop) states(h *lab.Host) map[string]string {
	out := map[string]string{}
	said := h.Run("sealane", "service", "inspect", "--format", `{{range .Backends}}{{.Sandbox}}={{.State}} {{end}}`, "web").Stdout
	for _, f := range strings.Fields(said) {
		name, state, _ := strings.Cut(f, "=")
		out[name] = state
	}
	return out
}

// eventually waits until something is so, and says how long that took if it did.
func (s *shop) eventually(what string, timeout time.Duration, ok func() bool) {
	s.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > timeout {
			s.Fatalf("not after %v: %s", timeout, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(begin); took > time.Second {
		s.Logf("after %v: %s", took.Round(time.Millisecond), what)
	}
}

// inside starts lab-echo in the client of a host.
func (s *shop) inside(h *lab.Host, args ...string) *lab.Process {
	s.Helper()
	return h.Start(s.doors[h.Name][0], append([]string{s.doors[h.Name][1], "lab-echo"}, args...)...)
}

// ask is the name of who answers a client at an address; "" for nobody.
func (s *shop) ask(h *lab.Host, addr string) string {
	s.Helper()
	r := h.Run(s.doors[h.Name][0], s.doors[h.Name][1], "lab-echo", "get", "-timeout", "2s", "http://"+addr+"/")
	for line := range strings.Lines(r.Stdout) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "name "); ok {
			return name
		}
	}
	return ""
}

// apart drops what two hosts send each other, until together.
func (s *shop) apart(h, o *lab.Host) {
	s.Helper()
	for _, p := range [][2]*lab.Host{{h, o}, {o, h}} {
		from := fmt.Sprintf("192.0.2.%d", s.nth(p[1])+1)
		p[0].Must("nft", "add table netdev away"+p[1].Name+" { chain in { type filter hook ingress device eth0 priority 0; ip saddr "+from+" drop; }; }")
	}
}

// together ends apart.
func (s *shop) together(h, o *lab.Host) {
	s.Helper()
	h.Must("nft", "delete table netdev away"+o.Name)
	o.Must("nft", "delete table netdev away"+h.Name)
}

// atOnce does something with some hosts at the same time. It does not end the test.
func (s *shop) atOnce(hosts []*lab.Host, do func(*lab.Host)) {
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() { do(h) })
	}
	all.Wait()
}

// settled waits until the hosts have nothing to do, and the service is ready.
func (s *shop) settled(hosts ...*lab.Host) {
	s.Helper()
	for _, h := range hosts {
		s.eventually(h.Name+" has nothing to do", time.Minute, func() bool {
			r := h.Run("sealane", "diff")
			return r.Code == 0 && r.Stdout == ""
		})
	}
}

// load is requests of the clients of some hosts, and connections that stay.
type load struct {
	s       *shop
	what    string
	askers  map[string]*lab.Process // by host
	streams []stream
}

// stream is a connection that stays.
type stream struct {
	from string // a host
	with string // who answers
	p    *lab.Process
}

// load starts requests to an address from the clients of some hosts, and as many streams
// from each, and waits until all have had an answer.
func (s *shop) load(what, addr string, streams int, hosts ...*lab.Host) *load {
	s.Helper()
	l := &load{s: s, what: what, askers: map[string]*lab.Process{}}
	for _, h := range hosts {
		l.askers[h.Name] = s.inside(h, "requests", "-every", unhurried.String(), "http://"+addr+"/")
		for range streams {
			l.streams = append(l.streams, stream{from: h.Name, p: s.inside(h, "stream", "-for", "10m", "-every", unhurried.String(), "-who", "http://"+addr+"/")})
		}
	}
	for i := range l.streams {
		st := &l.streams[i]
		s.eventually("a stream of "+st.from+" has an answer", time.Minute, func() bool {
			_, err := fmt.Sscanf(st.p.Output(), "with %s\n", &st.with)
			return err == nil
		})
	}
	time.Sleep(500 * time.Millisecond)
	return l
}

// tally is what became of the requests of a load.
type tally struct {
	sent, failed int
	answered     map[string]int
	first, last  time.Time // of those that failed, when they began
	why          string    // of the last
}

// failing is for how long requests failed that began then.
func (t tally) failing() time.Duration { return t.last.Sub(t.first).Round(time.Millisecond) }

// end ends the requests and says what became of them.
func (l *load) end() tally {
	l.s.Helper()
	sum := tally{answered: map[string]int{}}
	for _, p := range l.askers {
		p.Signal(syscall.SIGTERM)
	}
	for host, p := range l.askers {
		out, sent, failed := waitOutput(p), -1, -1
		for line := range strings.Lines(out) {
			var n, ms int64
			var text string
			if _, err := fmt.Sscanf(line, "answered %d %s", &n, &text); err == nil {
				sum.answered[text] += int(n)
			} else if _, err := fmt.Sscanf(line, "failure %d %s", &ms, &text); err == nil {
				sum.note(time.UnixMilli(ms), line)
			}
			fmt.Sscanf(line, "sent %d", &sent)
			fmt.Sscanf(line, "failed %d", &failed)
		}
		if sent < 1 || failed < 0 {
			l.s.Errorf("%s: requests of %s: %s", l.what, host, out)
		}
		sum.sent, sum.failed = sum.sent+sent, sum.failed+failed
	}
	l.s.Logf("%s: sent %d, failed %d, failing for %v %v; %s", l.what, sum.sent, sum.failed, sum.failing(), sum.answered, sum.why)
	return sum
}

func (t *tally) note(at time.Time, why string) {
	if t.first.IsZero() || at.Before(t.first) {
		t.first = at
	}
	if at.After(t.last) {
		t.last, t.why = at, strings.TrimSpace(why)
	}
}

// whole ends the requests, of which none may have failed.
func (l *load) whole() tally {
	l.s.Helper()
	t := l.end()
	if t.failed > 0 {
		l.s.Errorf("%s: %d of %d requests failed, the last: %s", l.what, t.failed, t.sent, t.why)
	}
	return t
}

// whole checks for a while that no request fails that begins now.
func (s *shop) whole(what string, hosts ...*lab.Host) {
	s.Helper()
	l := s.load(what, s.vip, 0, hosts...)
	time.Sleep(3 * time.Second)
	l.whole()
}

// close ends the streams that ok accepts, which must not have broken, and forgets them.
func (l *load) close(ok func(stream) bool) {
	l.s.Helper()
	count, longest := 0, time.Duration(0)
	l.streams = slices.DeleteFunc(l.streams, func(st stream) bool {
		if !ok(st) {
			return false
		}
		gap, err := st.end()
		if err != nil {
			l.s.Errorf("%s: the stream of %s with %s broke: %v", l.what, st.from, st.with, err)
		}
		count, longest = count+1, max(longest, gap)
		return true
	})
	l.s.Logf("%s: %d streams, the longest gap of one %v", l.what, count, longest)
}

// end ends a stream, and returns the longest time without an answer.
func (st stream) end() (gap time.Duration, err error) {
	st.p.Signal(syscall.SIGTERM)
	silent := time.AfterFunc(slack, func() { st.p.Signal(syscall.SIGKILL) })
	defer silent.Stop()
	said := waitOutput(st.p)
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "gap "); ok {
			gap, err = time.ParseDuration(text)
		}
	}
	if st.p.Wait() != 0 {
		err = errors.New(strings.Join(strings.Fields(said), " "))
	}
	return gap, err
}

// drop ends the streams that are left, whatever became of them.
func (l *load) drop() {
	l.s.Helper()
	broke := 0
	for _, st := range l.streams {
		st.p.Signal(syscall.SIGKILL)
		if strings.Contains(waitOutput(st.p), "lab-echo: ") {
			broke++
		}
	}
	l.s.Logf("%s: %d streams with who was gone, %d of them broke", l.what, len(l.streams), broke)
	l.streams = nil
}
