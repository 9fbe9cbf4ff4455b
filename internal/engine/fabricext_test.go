package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// shell notes what it is to run, and fails where it is told to.
type shell struct {
	mu   sync.Mutex // protects the following
	ran  []string
	fail map[string]string // by what a line contains: stderr
	held chan struct{}     // if not nil: commands wait for it
}

func (s *shell) Shell(ctx context.Context, command string, env []string, stdin string) (Ran, error) {
	line := strings.TrimSpace(command + " " + strings.Join(env, " ") + " < " + strings.TrimSpace(stdin))
	s.mu.Lock()
	s.ran = append(s.ran, line)
	held := s.held
	var bad string
	for part, stderr := range s.fail {
		if strings.Contains(line, part) {
			bad = stderr
		}
	}
	s.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return Ran{}, ctx.Err()
		}
	}
	if bad != "" {
		return Ran{Code: 2, Stderr: []byte("first\n" + bad + "\n")}, nil
	}
	return Ran{Stdout: []byte(" said by " + command + "\n")}, nil
}

func (s *shell) set(part, stderr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.fail, part); stderr != "" {
		s.fail[part] = stderr
	}
}

// take returns what was run since the last time, when it is as many lines.
func (s *shell) take(t *testing.T, n int) []string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		ran := slices.Clone(s.ran)
		if len(ran) >= n {
			s.ran = nil
			s.mu.Unlock()
			return ran
		}
		s.mu.Unlock()
		if time.Now().After(end) {
			t.Fatalf("%d commands, not %d:\n%s", len(ran), n, strings.Join(ran, "\n"))
		}
	}
}

const (
	extensionConfig = `{"Network":"10.5.0.0/16","Backend":{"Type":"extension","PreStartupCommand":"pre","PostStartupCommand":"post","ShutdownCommand":"shutdown","SubnetAddCommand":"add","SubnetRemoveCommand":"remove"}}`
	peerValue       = `{"PublicIP":"198.51.100.%d","PublicIPv6":null,"BackendType":"extension","BackendData":%q}`
	addOf2          = "add SUBNET=10.5.2.0/24 IPV6SUBNET= PUBLIC_IP=198.51.100.2 PUBLIC_IPV6= < data of 2"
	removeOf2       = "remove SUBNET=10.5.2.0/24 IPV6SUBNET= PUBLIC_IP=198.51.100.2 PUBLIC_IPV6= < data of 2"
)

// extended starts a rig's engine in a cluster with a config of backend extension, and
// one other host.
func extended(t *testing.T, s Commands) (*rig, func(key, value string)) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	m := cluster.NewMemory(nil)
	put := func(key, value string) {
		t.Helper()
		txn := cluster.Txn{Put: []cluster.Put{{Key: "/net/" + key, Value: []byte(value)}}}
		if value == "" {
			txn = cluster.Txn{Delete: []string{"/net/" + key}}
		}
		if _, _, err := m.Commit(r.ctx, txn); err != nil {
			t.Fatal(err)
		}
	}
	put("subnets/10.5.2.0-24", fmt.Sprintf(peerValue, 2, "data of 2"))
	put("subnets/10.5.1.0-24", `{"PublicIP":"198.51.100.9"}`)
	put("config", extensionConfig)
	r.cfg.Cluster = Cluster{Store: m, Prefix: "/net", Node: flannel.Node{Name: "a"}, Commands: s}
	r.e = New(r.cfg)
	if err := r.e.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	return r, put
}

func (r *rig) waitStatus(want string) {
	r.Helper()
	var got Status
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n := r.e.seen("/net"); n != nil {
			if got, _ = r.e.fabricStatus(n); got.Message == want {
				return
			}
		}
	}
	r.Errorf("status %q, want %q", got.Message, want)
}

// seen is fabricNetwork with the lock.
func (e *Engine) seen(key string) *model.Network {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.fabricNetwork(key)
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExtension(t *testing.T) {
	s := &shell{fail: map[string]string{}}
	r, put := extended(t, s)
	post := "SUBNET=10.5.1.0/24 IPV6SUBNET= PUBLIC_IP=198.51.100.9 PUBLIC_IPV6= NETWORK=10.5.0.0/16 IPV6NETWORK= <"
	same(t, "at start", s.take(t, 3), "pre  <", "post "+post, addOf2)
	n := r.e.seen("/net")
	if n == nil || n.Options.MTU != 1450 || n.Fabric.Backend.Type != model.BackendExtension {
		t.Fatalf("%+v", n)
	}
	own, err := r.cfg.Cluster.Store.List(r.ctx, "/net/subnets/10.5.1.0-24")
	if err != nil || len(own.Entries) != 1 || !strings.Contains(string(own.Entries[0].Value), `"BackendType":"extension","BackendData":"said by pre"`) {
		t.Errorf("lease %v, %v", own, err)
	}
	r.waitStatus("")

	// A peer that says something else is removed and added, one that comes is added.
	put("subnets/10.5.2.0-24", fmt.Sprintf(peerValue, 2, "more of 2"))
	put("subnets/10.5.3.0-24", fmt.Sprintf(peerValue, 3, "data of 3"))
	got := s.take(t, 3)
	slices.Sort(got)
	same(t, "changed peer", got, strings.Replace(addOf2, "data", "more", 1),
		strings.Replace(strings.Replace(addOf2, "2.0", "3.0", 1), ".2 PUBLIC_IPV6= < data of 2", ".3 PUBLIC_IPV6= < data of 3", 1), removeOf2)

	// What fails is removed and tried again; the status says which, and its last line.
	s.set("add SUBNET=10.5.3.0", "RTNETLINK answers: \x1b[1mFile exists")
	put("subnets/10.5.3.0-24", fmt.Sprintf(peerValue, 3, "more of 3"))
	got = s.take(t, 4)
	for i, word := range []string{"remove", "add", "remove", "add"} {
		if !strings.HasPrefix(got[i], word+" SUBNET=10.5.3.0/24") {
			t.Errorf("command %d: %s", i, got[i])
		}
	}
	r.waitStatus("SubnetAddCommand for 10.5.3.0/24: exit status 2: RTNETLINK answers:  [1mFile exists")
	s.set("add SUBNET=10.5.3.0", "")
	r.waitStatus("")
	s.take(t, 1)

	// Peers that go are removed, and all with the network; then it is shut down.
	put("subnets/10.5.3.0-24", "")
	if got := s.take(t, 1); !strings.HasPrefix(got[0], "remove SUBNET=10.5.3.0/24") {
		t.Errorf("%v", got)
	}
	put("config", "")
	same(t, "at the end", s.take(t, 2), strings.Replace(removeOf2, "data", "more", 1), "shutdown "+post)
}

// A daemon that starts runs all of it again, and one that ends nothing; what runs then is
// killed.
func TestExtensionRestart(t *testing.T) {
	s := &shell{fail: map[string]string{}}
	r, put := extended(t, s)
	s.take(t, 3)
	r.waitStatus("")
	s.mu.Lock()
	s.held = make(chan struct{})
	s.mu.Unlock()
	put("subnets/10.5.3.0-24", fmt.Sprintf(peerValue, 3, "data of 3"))
	s.take(t, 1)
	r.e.Close()
	if got := s.take(t, 0); len(got) > 0 {
		t.Errorf("at the end %v", got)
	}
	put("subnets/10.5.2.0-24", "")
	s.mu.Lock()
	s.held = nil
	s.mu.Unlock()
	again := r.cfg
	r.e = New(again)
	if err := r.e.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	var all []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && !strings.Contains(strings.Join(all, "\n"), "remove SUBNET=10.5.2.0/24"); {
		all = append(all, s.take(t, 1)...)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"pre  <", "post SUBNET=10.5.1.0/24", "add SUBNET=10.5.2.0/24", "remove SUBNET=10.5.2.0/24"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q %d times in:\n%s", want, strings.Count(text, want), text)
		}
	}
}

// A host whose settings do not allow for it runs nothing, and has no such network.
func TestExtensionRefused(t *testing.T) {
	r, put := extended(t, nil)
	time.Sleep(50 * time.Millisecond)
	if n := r.e.seen("/net"); n != nil {
		t.Errorf("%+v", n)
	}
	if _, err := r.fabric("x", map[string]string{"backend": "extension"}, "10.9.0.0/16"); err == nil || !strings.Contains(err.Error(), `"extension": want one of`) {
		t.Errorf("as an option: %v", err)
	}
	// One that becomes such stays what it was.
	put("config", `{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`)
	r.waitStatus("subnets/10.5.2.0-24: BackendType: \"extension\": the fabric is of \"host-gw\"")
	put("config", extensionConfig)
	r.waitStatus(errNoCommands.Error())
	if n := r.e.seen("/net"); n.Fabric.Backend.Type != model.BackendHostGW || n.Fabric.Commands != (model.Commands{}) {
		t.Errorf("%+v", n.Fabric)
	}
}

// PreStartup that fails is tried again before there is a lease.
func TestExtensionPrepare(t *testing.T) {
	s := &shell{fail: map[string]string{"pre": "no such device"}}
	r, _ := extended(t, s)
	s.take(t, 1)
	if n := r.e.seen("/net"); n != nil {
		t.Fatalf("%+v", n)
	}
	s.set("pre", "")
	got := s.take(t, 3)
	if got[0] != "pre  <" || !strings.HasPrefix(got[1], "post ") {
		t.Errorf("%v", got)
	}
}

// What comes by the way that commands made is let in there: a route of others to a
// peer's subnet, or to the whole network, but not the default route.
func TestLedTo(t *testing.T) {
	prefix := netip.MustParsePrefix
	f := &model.Fabric{Backend: model.Backend{Type: model.BackendExtension}, Whole: []netip.Prefix{prefix("10.5.0.0/16")}}
	p := &model.Peer{Subnets: []netip.Prefix{prefix("10.5.2.0/24")}}
	route := func(dst, dev string) kstate.Route { return kstate.Route{Dst: prefix(dst), Dev: dev, Other: true} }
	for _, c := range []struct {
		routes []kstate.Route
		want   string
	}{
		{nil, ""},
		{[]kstate.Route{route("0.0.0.0/0", "eth0"), route("10.0.0.0/8", "eth1")}, ""},
		{[]kstate.Route{route("10.5.0.0/16", "tun0")}, "tun0"},
		{[]kstate.Route{route("10.5.2.0/24", "eth0"), route("10.5.0.0/16", "tun0")}, "eth0"},
		{[]kstate.Route{route("10.5.2.0/25", "eth0"), route("10.5.3.0/24", "eth1")}, ""},
	} {
		if got := ledTo(f, p, false, &hostView{routes: c.routes}); got != c.want {
			t.Errorf("%v: %q, want %q", c.routes, got, c.want)
		}
	}
	f.Backend.Type = model.BackendAlloc
	if got := ledTo(f, p, false, &hostView{routes: []kstate.Route{route("10.5.2.0/24", "eth0")}}); got != "" {
		t.Errorf("backend alloc: %q", got)
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "\n\n": "", "a\nb\n": ": b", "x\xff\x1b[0m": ": x? [0m"} {
		if got := lastLine([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := lastLine([]byte(strings.Repeat("x", 1000))); len(got) > 310 {
		t.Errorf("%d bytes", len(got))
	}
}
