package script

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// TestServiceFaults counts the requests to a service that fail while backends, daemons,
// hosts, the network between hosts and the store come and go. Each has a cluster of its
// own; those that wait long begin first.
func TestServiceFaults(t *testing.T) {
	faults := []struct {
		name string
		test func(*testing.T)
	}{
		{"backend moves", backendMoves},
		{"store away", storeAway},
		{"partition", partition},
		{"host dies", hostDies},
		{"two hosts apart", twoApart},
		{"backends replaced", backendsReplaced},
		{"daemons killed", daemonsKilled},
		{"backend killed", backendKilled},
		{"port published", portPublished},
	}
	turn := make(chan struct{}, 4)
	var all sync.WaitGroup
	for _, f := range faults {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			t.Run(f.name, f.test)
		})
	}
	all.Wait()
}

// served is a connection at port 80 that is open (TCP_ESTABLISHED), in /proc/net/tcp.
var served = regexp.MustCompile(`:0050 \S+ 01 `)

// backendsReplaced gives each host another backend, and then takes the one it had.
func backendsReplaced(t *testing.T) {
	s := newShop(t)
	l := s.load("the service", s.vip, 3, s.hosts...)
	for _, h := range s.hosts {
		old, next := "web-"+h.Name, "next-"+h.Name
		s.open(h, next, "")
		s.all("ready", next)
		h.Must("sealane", "service", "update", "--drain", old, "web")
		s.all("draining", old)
		l.close(func(st stream) bool { return st.with == old })
		s.eventually(old+" has no connection", time.Minute, func() bool {
			return !served.MatchString(h.Must("sealane", "exec", old, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6"))
		})
		h.Must("sealane", "rm", "-f", old)
		s.all("", old)
	}
	l.close(func(stream) bool { return true })
	got := l.whole()
	for _, h := range s.hosts {
		if got.answered["next-"+h.Name] == 0 {
			t.Errorf("next-%s was never asked", h.Name)
		}
	}
	s.settled(s.hosts...)
}

// daemonsKilled kills the daemons of a host with clients and backends, and of another.
func daemonsKilled(t *testing.T) {
	s := newShop(t)
	l := s.load("the service", s.vip, 3, s.hosts...)
	for _, h := range s.hosts[:2] {
		h.Kill9()
		time.Sleep(time.Second)
		h.Restart()
		time.Sleep(time.Second)
	}
	s.all("ready", "web-a", "web-b", "web-c")
	l.close(func(stream) bool { return true })
	l.whole()
	s.settled(s.hosts...)
}

// hostDies takes the first host away, which leads the cluster more often than not. The
// clients use their ports again soon, those too of connections that nobody answered.
func hostDies(t *testing.T) {
	s := newShop(t)
	dead, alive := s.hosts[0], s.hosts[1:]
	for _, h := range alive {
		h.Must(s.doors[h.Name][0], s.doors[h.Name][1], "sh", "-c", "cd /proc/sys/net/ipv4 && echo 40000 41999 >ip_local_port_range && echo 0 >tcp_max_tw_buckets")
	}
	l := s.load("the service", s.vip, 4, alive...)
	near := s.load("a backend that lives", s.addr(alive[0]), 0, alive...)
	begin := time.Now()
	dead.Cut("eth0")
	dead.Kill9()
	s.say(alive, "away", "web-a")
	s.whole("once the host is away", alive...)
	if got := l.end(); got.last.Sub(begin) > lease+slack {
		t.Errorf("requests fail %v after the host died: %s", got.last.Sub(begin), got.why)
	}
	near.whole()
	l.close(func(st stream) bool { return st.with != "web-a" })
	l.drop()
	s.settled(alive...)
}

// partition cuts a host off from the two others for longer than a lease, and mends it.
func partition(t *testing.T) {
	s := newShop(t)
	most, few := s.hosts[:2], s.hosts[2]
	before := s.belongings()
	l := s.load("the service", s.vip, 4, most...)
	alone := s.load("the service, from the host that is alone", s.vip, 4, few)
	own := s.load("its own backend", s.addr(few), 1, few)
	begin := time.Now()
	for _, h := range most {
		s.apart(h, few)
	}
	s.say(most, "away", "web-c")
	s.whole("the majority, once the third is away", most...)
	most[0].Must("sealane", "service", "create", "--name", "later", "--network", "app", "--port", "80")
	if got := l.end(); got.last.Sub(begin) > lease+slack {
		t.Errorf("requests of the majority fail %v after it was cut: %s", got.last.Sub(begin), got.why)
	}

	// Who is alone goes on with what it knew: it cannot tell which of both has the store.
	if got := s.states(few); !maps.Equal(got, map[string]string{"web-a": "ready", "web-b": "ready", "web-c": "ready"}) {
		t.Errorf("who is alone says: %v", got)
	}
	inside := s.load("the service, from the host that is alone, meanwhile", s.vip, 0, few)
	time.Sleep(3 * time.Second)
	if got := inside.end(); got.answered["web-c"] == 0 || len(got.answered) != 1 {
		t.Errorf("who answers while it is alone: %v, want web-c", got.answered)
	}
	if r := few.Run("sealane", "exec", "client-c", "--", "lab-echo", "dns", "web"); !strings.Contains(r.Stdout, s.vip) {
		t.Errorf("the name of the service while it is alone: %s%s", r.Stdout, r.Stderr)
	}

	healed := time.Now()
	for _, h := range most {
		s.together(h, few)
	}
	s.all("ready", "web-a", "web-b", "web-c")
	s.eventually("c knows the other service", time.Minute, func() bool { return few.Run("sealane", "service", "inspect", "later").Code == 0 })
	t.Logf("all is known everywhere %v after it was mended", time.Since(healed).Round(time.Millisecond))
	s.whole("afterwards", s.hosts...)
	if got := alone.end(); got.last.Sub(healed) > slack {
		t.Errorf("requests of who was alone fail %v after it was mended: %s", got.last.Sub(healed), got.why)
	}
	own.whole()
	own.close(func(stream) bool { return true })
	l.close(func(st stream) bool { return st.with != "web-c" })
	alone.close(func(st stream) bool { return st.with == "web-c" })
	l.drop()
	alone.drop()
	if after := s.belongings(); before != after {
		t.Errorf("there is\n%s\nwas\n%s", after, before)
	}
	s.refused(most[0], few)
	s.settled(s.hosts...)
}

// belongings is what endpoints there are, and where, as each host says.
func (s *shop) belongings() string {
	s.Helper()
	var out []string
	for _, h := range s.hosts {
		said := strings.Fields(h.Must("sealane", "network", "inspect", "--format",
			`{{range .Overlay.Members}}{{$h := .Host}}{{range .Endpoints}}{{$h}}/{{json .}} {{end}}{{end}}`, "app"))
		slices.Sort(said)
		for _, who := range []string{"web-" + h.Name, "client-" + h.Name} {
			said = append(said, h.Must("sealane", "inspect", "--format", "{{.Name}} {{range .Endpoints}}{{.Addresses}} {{.MAC}}{{end}}", who))
		}
		out = append(out, h.Name+":\n"+strings.Join(said, "\n"))
	}
	return strings.Join(out, "\n")
}

// refused checks that a host does not get the addresses of another's containers.
func (s *shop) refused(h, owner *lab.Host) {
	s.Helper()
	for _, a := range []string{s.addr(owner), fmt.Sprintf("10.1.0.2%d", s.nth(owner)+1)} {
		if r := h.Run("sealane", "run", "--name", "thief", "--network", "name=app,ip="+a, "--", "true"); r.Code == 0 || !strings.Contains(r.Stderr, "is taken by") {
			s.Errorf("%s takes %s: %d %s", h.Name, a, r.Code, r.Stderr)
		}
	}
}

// twoApart cuts two hosts off from each other, which both reach the third and the store:
// nothing tells that they do not reach each other.
func twoApart(t *testing.T) {
	s := newShop(t)
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	l := s.load("from a, to all", s.vip, 4, a)
	lb := s.load("from b, to all", s.vip, 4, b)
	others := []*load{
		s.load("from c, to all", s.vip, 4, c), s.load("to c, from all", s.addr(c), 1, s.hosts...),
		s.load("within a", s.addr(a), 1, a), s.load("within b", s.addr(b), 1, b),
	}
	s.apart(a, b)
	time.Sleep(lease + 5*time.Second)
	for _, h := range s.hosts {
		t.Logf("%s says: %v", h.Name, s.states(h))
	}
	s.together(a, b)
	healed := time.Now()
	s.all("ready", "web-a", "web-b", "web-c")
	s.whole("afterwards", s.hosts...)
	for _, l := range []*load{l, lb} {
		if got := l.end(); got.last.Sub(healed) > slack {
			t.Errorf("%s: requests fail %v after it was mended: %s", l.what, got.last.Sub(healed), got.why)
		}
	}
	for _, l := range others {
		l.whole()
		l.close(func(stream) bool { return true })
	}
	l.close(func(st stream) bool { return st.with != "web-b" })
	lb.close(func(st stream) bool { return st.with != "web-a" })
	l.drop()
	lb.drop()
	s.settled(s.hosts...)
}

// storeAway stops two of the three daemons, and with them the store, for a minute, and
// has the third begin again without it.
func storeAway(t *testing.T) {
	s := newShop(t)
	before := s.belongings()
	l := s.load("the service", s.vip, 3, s.hosts...)
	rest := s.hosts[1:]
	s.atOnce(rest, (*lab.Host).Kill9)
	begin := time.Now()
	s.eventually("the store is away", time.Minute, func() bool {
		return strings.Contains(s.hosts[0].Run("sealane", "cluster", "status").Stdout, "no: ")
	})
	time.Sleep(2 * lease)
	s.hosts[0].Kill9()
	s.hosts[0].Restart()
	time.Sleep(time.Until(begin.Add(time.Minute)))
	if got := s.states(s.hosts[0]); !maps.Equal(got, map[string]string{"web-a": "ready", "web-b": "ready", "web-c": "ready"}) {
		t.Errorf("without the store it is said: %v", got)
	}
	s.atOnce(rest, (*lab.Host).Restart)
	s.eventually("the store is back", time.Minute, func() bool {
		return strings.Contains(s.hosts[0].Run("sealane", "cluster", "status").Stdout, "yes")
	})
	s.all("ready", "web-a", "web-b", "web-c")
	s.whole("afterwards", s.hosts...)
	l.close(func(stream) bool { return true })
	l.whole()
	if after := s.belongings(); before != after {
		t.Errorf("there is\n%s\nwas\n%s", after, before)
	}
	s.settled(s.hosts...)
}

// backendMoves takes a backend from one host, and gives its address to one of another.
func backendMoves(t *testing.T) {
	s := newShop(t)
	from, to := s.hosts[1], s.hosts[2]
	addr := s.addr(from)
	l := s.load("the service", s.vip, 4, s.hosts...)
	direct := s.load("the address", addr, 0, s.hosts...)
	from.Must("sealane", "service", "update", "--drain", "web-b", "web")
	s.all("draining", "web-b")
	l.close(func(st stream) bool { return st.with == "web-b" })
	from.Must("sealane", "rm", "-f", "web-b")
	to.Must("sealane", "run", "-d", "--name", "moved", "--", "lab-echo", "serve", "-tcp", "80", "-name", "moved")
	s.admit(to, "moved", addr)
	there := time.Now()
	s.all("ready", "moved")
	time.Sleep(3 * time.Second)
	got := direct.end()
	t.Logf("the address is not reached for %v after it moved", max(0, got.last.Sub(there)).Round(time.Millisecond))
	if got.last.Sub(there) > slack || got.answered["moved"] == 0 {
		t.Errorf("requests to it fail %v after it moved, %v: %s", got.last.Sub(there), got.answered, got.why)
	}
	l.close(func(stream) bool { return true })
	if got := l.whole(); got.answered["moved"] == 0 {
		t.Error("who moved is no backend")
	}
	s.settled(s.hosts...)
}

// backendKilled kills the process of a backend, with which its container ends.
func backendKilled(t *testing.T) {
	s := newShop(t)
	h := s.hosts[1]
	l := s.load("the service", s.vip, 4, s.hosts...)
	begin := time.Now()
	h.Must("sh", "-c", "kill -9 $(sealane inspect --format {{.PID}} web-b)")
	s.all("stopped", "web-b")
	s.whole("afterwards", s.hosts...)
	if got := l.end(); got.last.Sub(begin) > slack {
		t.Errorf("requests fail %v after it was killed: %s", got.last.Sub(begin), got.why)
	}
	l.close(func(st stream) bool { return st.with != "web-b" })
	l.drop()
	s.settled(s.hosts...)
}

// portPublished asks all hosts at a published port from outside, while a host's daemon dies,
// its backend is replaced, the port goes and comes, and at last another host dies.
func portPublished(t *testing.T) {
	s := newShop(t)
	x := s.outside("192.0.2.9/24")
	a, c := s.hosts[0], s.hosts[2]
	a.Must("sealane", "service", "update", "--publish-add", "8080:80", "web")
	var each []*load
	for i, h := range s.hosts {
		at := fmt.Sprintf("192.0.2.%d:8080", i+1)
		for _, far := range s.hosts {
			s.eventually(h.Name+" answers by web-"+far.Name, time.Minute, func() bool { return s.ask(x, at) == "web-"+far.Name })
		}
		each = append(each, s.load("at "+h.Name, at, 4, x))
	}
	a.Kill9()
	time.Sleep(time.Second)
	s.open(c, "next", "")
	a.Restart()
	s.all("ready", "next")
	for i, l := range each {
		s.eventually(l.what+" next is asked", time.Minute, func() bool { return s.ask(x, fmt.Sprintf("192.0.2.%d:8080", i+1)) == "next" })
	}
	c.Must("sealane", "service", "update", "--drain", "web-c", "web")
	s.all("draining", "web-c")
	for _, l := range each {
		l.close(func(st stream) bool { return st.with == "web-c" })
	}
	c.Must("sealane", "rm", "-f", "web-c")
	s.all("", "web-c")
	for _, l := range each {
		l.whole()
	}
	a.Must("sealane", "service", "update", "--publish-rm", "8080", "web")
	s.eventually("nobody answers any more", time.Minute, func() bool { return s.ask(x, "192.0.2.1:8080") == "" })
	a.Must("sealane", "service", "update", "--publish-add", "8080:80", "web")
	s.eventually("all answer again", time.Minute, func() bool {
		return !slices.ContainsFunc([]int{1, 2, 3}, func(i int) bool { return s.ask(x, fmt.Sprintf("192.0.2.%d:8080", i)) == "" })
	})
	for _, l := range each {
		l.close(func(stream) bool { return true }) // they did not notice
	}

	begin := time.Now()
	rest := s.load("at a, while c dies", "192.0.2.1:8080", 4, x)
	other := s.load("at b, while c dies", "192.0.2.2:8080", 4, x)
	c.Cut("eth0")
	c.Kill9()
	s.say(s.hosts[:2], "away", "next")
	for i := range 2 {
		l := s.load("once c is away", fmt.Sprintf("192.0.2.%d:8080", i+1), 0, x)
		time.Sleep(3 * time.Second)
		l.whole()
	}
	for _, l := range []*load{rest, other} {
		if got := l.end(); got.last.Sub(begin) > lease+slack {
			t.Errorf("%s: requests fail %v after it died: %s", l.what, got.last.Sub(begin), got.why)
		}
		l.close(func(st stream) bool { return st.with != "next" })
		l.drop()
	}
	s.settled(s.hosts[:2]...)
}
